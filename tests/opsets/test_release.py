"""What is known of a release is what the real release says of itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bridge.opsets
from bridge.errors import UsageError
from bridge.opsets import CURRENT, load_opset, not_differentiable_ops, ops_without_gradient
from bridge.opsets.release import known_releases, load_release
from bridge.proto import tf_pb
from tests.clients.tf1 import ROOT, tf1_environ

FILES = Path(bridge.opsets.__file__).parent
WRITTEN_BY_HAND = {".limits.txt"}

RELEASE = load_release("1.15")


def suffixes(release: str) -> set[str]:
    prefix = f"tf-{release}"
    return {file.name[len(prefix) :] for file in FILES.glob(f"{prefix}.*")} - WRITTEN_BY_HAND


def dump(python: Path | str, prefix: Path, *options: str) -> None:
    command = [python, ROOT / "tools" / "dump_opset.py", *options, prefix]
    subprocess.run(command, check=True, capture_output=True, env=tf1_environ())


def check_files(release: str, folder: Path) -> None:
    written = {file.name[len(f"tf-{release}") :]: file for file in folder.iterdir()}
    assert set(written) == suffixes(release)
    for suffix, file in written.items():
        assert file.read_bytes() == (FILES / f"tf-{release}{suffix}").read_bytes(), suffix


def test_the_files_are_what_the_real_release_says(tf1_python: Path, tmp_path: Path) -> None:
    dump(tf1_python, tmp_path / "tf-1.15", "--target")
    check_files("1.15", tmp_path)


@pytest.mark.tf2
def test_the_files_of_today_are_what_the_real_release_says(tmp_path: Path) -> None:
    from importlib.metadata import version

    if not version("tensorflow").startswith(f"{CURRENT}."):
        pytest.skip(f"this is no TensorFlow {CURRENT}")
    dump(sys.executable, tmp_path / f"tf-{CURRENT}")
    check_files(CURRENT, tmp_path)


def test_an_unknown_release_is_refused_and_the_known_ones_are_named() -> None:
    assert known_releases() == ["1.15"]
    for name in ("1.14", "", "2.21", "../opsets/tf-1.15", "1.15.5.1", "1.15.x", "1.14.0"):
        with pytest.raises(UsageError, match="no module can be written") as caught:
            load_release(name)
        assert str(caught.value.hint) == "known releases: 1.15"


def test_a_patch_release_is_the_release_that_it_patches() -> None:
    assert load_release("1.15.5") is RELEASE


def test_a_release_knows_its_ops_types_and_versions() -> None:
    assert str(RELEASE) == "TensorFlow 1.15"
    assert {"FusedBatchNormV3", "Einsum", "If"} <= set(RELEASE.ops)
    assert "StatelessRandomGetKeyCounter" not in RELEASE.ops
    assert tf_pb.DT_UINT64 in RELEASE.dtypes
    assert tf_pb.DT_UINT64 + 1 not in RELEASE.dtypes  # float8_e5m2
    assert RELEASE.versions() == tf_pb.VersionDef(producer=134)


@pytest.mark.parametrize(
    ("op", "types", "wanted"),
    [
        ("Add", {"T": [tf_pb.DT_FLOAT]}, True),
        ("Add", {"T": [tf_pb.DT_UINT32]}, False),
        ("Angle", {"T": [tf_pb.DT_COMPLEX64], "Tout": [tf_pb.DT_FLOAT]}, True),
        ("Angle", {"T": [tf_pb.DT_COMPLEX64], "Tout": [tf_pb.DT_DOUBLE]}, False),
        ("Placeholder", {"dtype": [tf_pb.DT_UINT32]}, True),  # a kernel without conditions
        ("IdentityN", {"T": [tf_pb.DT_FLOAT, tf_pb.DT_STRING]}, True),
        ("NcclAllReduce", {"T": [tf_pb.DT_FLOAT]}, False),  # for GPUs only
        ("NoSuchOp", {}, False),
    ],
)
def test_a_kernel_takes_some_types(op: str, types: dict[str, list[int]], wanted: bool) -> None:
    found = {attr: frozenset(dtypes) for attr, dtypes in types.items()}
    assert RELEASE.has_kernel(op, found) == wanted


@pytest.mark.parametrize("file_of", [ops_without_gradient, not_differentiable_ops])
@pytest.mark.parametrize("release", ["1.15", CURRENT])
def test_ops_without_gradient_are_ops(
    file_of: Callable[[str], frozenset[str]], release: str
) -> None:
    assert file_of(release) <= set(load_opset(release))


def test_an_op_has_no_gradient_or_none_at_all() -> None:
    assert not RELEASE.without_gradient & RELEASE.not_differentiable
    assert {"ClipByValue", "Einsum", "While"} <= RELEASE.without_gradient
    assert {"StopGradient", "EuclideanNorm"} <= RELEASE.not_differentiable


@pytest.mark.parametrize("limits", ["limits", "gradient_limits"])
def test_limits_speak_of_attributes_that_the_ops_have(limits: str) -> None:
    found = getattr(RELEASE, limits)
    assert found
    for op, of_op in found.items():
        attrs = {attr.name: attr for attr in RELEASE.ops[op].attr}
        for limit in of_op:
            assert limit.allows(attrs[limit.attr].default_value), op
