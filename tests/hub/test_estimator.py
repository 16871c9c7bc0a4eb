"""What needed tf.estimator says what to use instead, and what it says works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import UnsupportedError
from tests.conftest import TESTDATA

pytestmark = pytest.mark.tf2

TEXT = str(TESTDATA / "modules" / "text_vocab")


def test_exporters_for_estimators_name_the_other_way() -> None:
    from bridge import hub

    for use in (
        lambda: hub.LatestModuleExporter("modules", lambda: None, exports_to_keep=3),
        lambda: hub.register_module_for_export(object(), "name"),
    ):
        with pytest.raises(NotImplementedError, match=r"works for tf\.estimator, which") as caught:
            use()
        assert isinstance(caught.value, UnsupportedError)
        assert "checkpoint_path=model_dir" in str(caught.value.hint)


def test_a_checkpoint_of_a_training_becomes_a_module_as_the_hint_says(tmp_path: Path) -> None:
    import tensorflow as tf

    from bridge import hub

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        module = hub.Module(TEXT, trainable=True)
        (embeddings,) = module.variables
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(v1.assign(embeddings, embeddings * 2.0))
            wanted = session.run(embeddings)
            v1.train.Saver().save(session, str(tmp_path / "model" / "model.ckpt"), global_step=3)
    hub.load_module_spec(TEXT).export(
        tmp_path / "module",
        checkpoint_path=tmp_path / "model",
        name_transform_fn=lambda name: "module/" + name,
    )
    exported = hub.Module(str(tmp_path / "module"))
    np.testing.assert_array_equal(exported.variables[0], wanted)


def test_what_tensorflow_hub_still_has_is_handed_through() -> None:
    import tensorflow_hub

    from bridge import hub

    names: list[str] = ["KerasLayer", "__version__", "load", "resolve"]
    for name in names:
        assert getattr(hub, name) is getattr(tensorflow_hub, name)
    assert hub.resolve(TEXT) == TEXT


@pytest.mark.parametrize(
    ("missing", "advice"),
    [("pkg_resources", "setuptools<81"), ("tensorflow_hub", "hubbridge\\[parity\\]")],
)
def test_a_tensorflow_hub_that_can_not_be_imported_is_named(
    missing: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import sys

    from bridge import hub
    from bridge.errors import MissingExtraError

    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=missing) as caught:
        hub.KerasLayer  # noqa: B018
    assert advice.replace("\\", "") in str(caught.value.hint)
    assert capsys.readouterr().out == ""
