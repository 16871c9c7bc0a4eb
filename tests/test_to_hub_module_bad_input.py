"""Whatever is wrong with a SavedModel or DEST: one clear error, no DEST, nothing left beside it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bridge
from bridge import DestinationError, MalformedError, RefusedError, UnsupportedError
from bridge.cli import main
from bridge.proto import tf_pb
from bridge.saved_model.record import RECORD
from tests.attacks.edit import saved_model
from tests.attacks.saved_models import _lookup, _static_table
from tests.conftest import TESTDATA
from tests.saved_model.handmade import Handmade, doubling, spec
from tests.saved_model.images import image_model

FILES = ("saved_model.pb", "variables.index", "variables.data-00000-*")


def _handmade(directory: Path) -> Path:
    model = image_model()
    _lookup([_static_table()], model.asset("words.txt", b"a\nb\n"), model)
    model.objects.nodes[0].children.pop(0)  # the other `__call__`
    for i in range(3):
        model.variable(f"layer/{i}", [float(i)] * 5, attribute=f"v{i}")
    return model.write(directory)


def _recorded(directory: Path) -> Path:
    bridge.to_saved_model(TESTDATA / "modules" / "toy_image_ref", directory)
    return directory


def _without_record(directory: Path) -> Path:
    _recorded(directory)
    with saved_model(directory) as message:
        del message.meta_graphs[0].collection_def[RECORD]
    return directory


SOURCES: dict[str, Callable[[Path], Path]] = {
    "handmade": _handmade,
    "recorded": _recorded,
    "without record": _without_record,
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return SOURCES[request.param](tmp_path / "model")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return _handmade(tmp_path / "model")


def _file(source: Path, pattern: str) -> Path:
    (path,) = source.rglob(pattern)
    return path


def _refused_or_converted(source: Path, out: Path, *, may_succeed: bool = True) -> None:
    try:
        bridge.to_hub_module(source, out)
    except (UnsupportedError, RefusedError):
        assert not out.exists()
    else:
        assert may_succeed
        shutil.rmtree(out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["model"]


# -- broken files ----------------------------------------------------------------------------------


def test_these_sources_are_good(source: Path, tmp_path: Path) -> None:
    report = bridge.to_hub_module(source, tmp_path / "out")
    assert report.kept.signatures
    assert report.kept.variables


def test_a_truncated_graph_is_refused_at_every_length(source: Path, tmp_path: Path) -> None:
    path = _file(source, FILES[0])
    data = path.read_bytes()
    lengths = {0, 1, 2, 3, 10, len(data) - 1, *range(0, len(data), len(data) // 25 + 1)}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        _refused_or_converted(source, tmp_path / "out", may_succeed=False)


@pytest.mark.parametrize("file", FILES[1:])
def test_a_truncated_checkpoint_is_refused_at_every_length(
    file: str, source: Path, tmp_path: Path
) -> None:
    path = _file(source, file)
    data = path.read_bytes()
    for length in range(0, len(data), len(data) // 25 + 1):
        path.write_bytes(data[:length])
        _refused_or_converted(source, tmp_path / "out", may_succeed=False)


@pytest.mark.parametrize("file", FILES)
def test_garbled_bytes_never_crash(file: str, source: Path, tmp_path: Path) -> None:
    path = _file(source, file)
    original = path.read_bytes()

    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 1 << 32), st.integers(1, 6))
    def check(seed: int, flips: int) -> None:
        data = bytearray(original)
        choice = random.Random(seed)
        for _ in range(flips):
            data[choice.randrange(len(data))] = choice.randrange(256)
        path.write_bytes(data)
        _refused_or_converted(source, tmp_path / "out")

    check()


def test_a_table_filled_from_an_object_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = _handmade(tmp_path / "source") / "saved_model.pb"
    saved_model = tf_pb.SavedModel.FromString(path.read_bytes())
    concrete = saved_model.meta_graphs[0].object_graph_def.concrete_functions
    nodes = saved_model.meta_graphs[0].object_graph_def.nodes
    (initialize,) = (
        nodes[child.node_id].function.concrete_functions[0]
        for node in nodes
        for child in node.children
        if child.local_name == "_initialize"
    )
    concrete[initialize].bound_inputs[-1] = 1000
    path.write_bytes(saved_model.SerializeToString())
    with pytest.raises(MalformedError, match="captures object 1000"):
        bridge.to_hub_module(path.parent, tmp_path / "out")


def test_a_file_that_cannot_be_read_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def deny(path: Path, *args: int) -> int:
        if Path(path).name == denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *args)

    monkeypatch.setattr(os, "open", deny)
    for denied in (*(_file(small, pattern).name for pattern in FILES), "words.txt"):
        with pytest.raises(bridge.SourceNotFoundError, match="Permission denied") as caught:
            bridge.to_hub_module(small, tmp_path / "out")
        assert denied in str(caught.value)
        assert not (tmp_path / "out").exists()


# -- DEST ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("dest", ["model", "model/out", "model/variables/deep/out", "."])
def test_a_dest_in_or_around_the_source_is_refused(
    dest: str, overwrite: bool, small: Path, tmp_path: Path
) -> None:
    before = _tree(tmp_path)
    with pytest.raises(DestinationError):
        bridge.to_hub_module(small, tmp_path / dest, overwrite=overwrite)
    assert _tree(tmp_path) == before


def test_an_existing_dest_is_refused_without_overwrite(small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DestinationError, match="exists already"):
        bridge.to_hub_module(small, tmp_path / "out")
    bridge.to_hub_module(small, tmp_path / "out", overwrite=True)
    fresh = bridge.to_hub_module(small, tmp_path / "fresh")
    assert _tree(tmp_path / "out") == _tree(tmp_path / "fresh")
    (tmp_path / "out" / "stale").touch()
    bridge.to_hub_module(small, tmp_path / "out", overwrite=True)
    assert _tree(tmp_path / "out") == _tree(tmp_path / "fresh")
    assert fresh.destination == str(tmp_path / "fresh")


def test_what_is_no_model_is_not_overwritten(small: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").write_text("dear")
    with pytest.raises(DestinationError, match="which is not overwritten"):
        bridge.to_hub_module(small, tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "letters").read_text() == "dear"


def test_a_parent_that_cannot_be_written_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def deny(path: Path, *args: Any, **options: Any) -> None:
        if path.parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(DestinationError, match="Permission denied"):
        bridge.to_hub_module(small, tmp_path / "out")


STEPS = ["bridge.output.write_bundle", "pathlib.Path.write_bytes", "shutil.copyfileobj"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, "No space left on device"), 2), (KeyboardInterrupt(), 130)],
    ids=["full disk", "ctrl-c"],
)
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_conversion_leaves_nothing_and_keeps_the_old_dest(
    step: str,
    error: BaseException,
    code: int,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dest = tmp_path / "out"
    bridge.to_hub_module(small, dest)
    before = _tree(tmp_path)

    def stop(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(step, stop)
    assert main(["to-hub-module", str(small), str(dest), "--overwrite"]) == code
    assert _tree(tmp_path) == before


# -- forms of SOURCE -------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "deep"])
def test_an_archive_is_a_source(inside: str, small: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small, inside or ".")
    bridge.to_hub_module(archive, tmp_path / "out")
    bridge.to_hub_module(small, tmp_path / "fresh")
    assert _tree(tmp_path / "out") == _tree(tmp_path / "fresh")


def test_an_error_within_an_archive_names_the_archive(tmp_path: Path) -> None:
    path = doubling().write(tmp_path / "model")
    (path / "saved_model.pb").write_bytes(b"\xff\xff")
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", path)
    with pytest.raises(bridge.MalformedError) as caught:
        bridge.to_hub_module(archive, tmp_path / "out")
    assert str(Path(archive, "saved_model.pb")) in str(caught.value)


def test_a_model_of_many_objects_is_read_in_bounded_time(tmp_path: Path) -> None:
    import time

    model = Handmade()
    parent = 0
    for i in range(20000):
        child = model.objects.add_object()
        model.objects.link(parent, f"attribute{i}", child)
        parent = child if i % 2 else parent
    made = doubling().library.function[0]
    model.method("__call__", [model.trace(made, [spec()])])
    path = model.write(tmp_path / "model")
    started = time.monotonic()
    bridge.to_hub_module(path, tmp_path / "out")
    assert time.monotonic() - started < 20


def _tree(directory: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }
