"""The examples of the page about the common signatures of images run as they are printed there.

https://www.tensorflow.org/hub/common_signatures/images, whose code was written for TensorFlow 1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from tests.clients.converted import assert_close
from tests.conftest import TESTDATA, Golden

pytestmark = pytest.mark.tf2

FEATURE_VECTORS = """\
  module_spec = hub.load_module_spec("path/to/module")
  height, width = hub.get_expected_image_size(module_spec)
  images = ...  # A batch of images with shape [batch_size, height, width, 3].
  module = hub.Module(module_spec)
  features = module(images)   # A batch with shape [batch_size, num_features].
"""
NAMED_FEATURE_VECTORS = """\
  outputs = module(dict(images=images), signature="image_feature_vector",
                   as_dict=True)
  features = outputs["default"]
"""
LOGITS = """\
  module_spec = hub.load_module_spec("path/to/module")
  height, width = hub.get_expected_image_size(module_spec)
  images = ...  # A batch of images with shape [batch_size, height, width, 3].
  module = hub.Module(module_spec)
  logits = module(images)   # A batch with shape [batch_size, num_classes].
"""
NAMED_LOGITS = """\
  outputs = module(dict(images=images), signature="image_classification",
                   as_dict=True)
  logits = outputs["default"]
"""


class Session(dict[str, Any]):
    """The names of a program, in which the dots of `images = ...` stand for these images."""

    def __init__(self, images: Any):
        from bridge import hub

        super().__init__(hub=hub)
        self._images = images

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, self._images if value is ... else value)

    def run(self, example: str) -> None:
        exec(compile(dedent(example), "common_signatures/images", "exec"), {}, self)


@pytest.mark.parametrize("way", ["eager", "graph", "function"])
@pytest.mark.parametrize(
    ("name", "result", "example", "named"),
    [
        ("toy_image_ref", "features", FEATURE_VECTORS, NAMED_FEATURE_VECTORS),
        ("toy_image_resource", "features", FEATURE_VECTORS, NAMED_FEATURE_VECTORS),
        ("digits", "logits", LOGITS, NAMED_LOGITS),
    ],
    ids=["features-ref", "features-resource", "logits"],
)
def test_the_example_computes_what_the_old_client_did(
    name: str,
    result: str,
    example: str,
    named: str,
    way: str,
    golden: Callable[[str], Golden],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    recorded = golden(name)
    (images,) = recorded.under("|default|in").values()
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "module").symlink_to(TESTDATA / "modules" / name)
    monkeypatch.chdir(tmp_path)

    def program() -> Any:
        session = Session(tf.constant(images))
        session.run(example)
        found = [session[result]]
        session.run(named)
        assert [session["height"], session["width"]] == [16, 16]
        return [*found, session[result], session["outputs"]]

    with ExitStack() as stack:
        if way == "graph":
            stack.enter_context(tf.Graph().as_default())
            graph_outputs = program()
            session = stack.enter_context(tf.compat.v1.Session())
            session.run(tf.compat.v1.global_variables_initializer())
            unnamed, by_name, outputs = session.run(graph_outputs)
        else:
            unnamed, by_name, outputs = (tf.function(program) if way == "function" else program)()
    for key, array in recorded.under("|default|out").items():
        assert_close(np.asarray(outputs[key]), array, key)
    np.testing.assert_array_equal(by_name, outputs["default"])
    assert_close(np.asarray(unnamed), np.asarray(by_name), result)
