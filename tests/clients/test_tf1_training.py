"""What the client's requests for training, Estimators and other uses say, on genuine modules."""

from __future__ import annotations

import numpy as np
import pytest

NAME = "toy_train_nodropout_resource"
IN = "train|default|in"


@pytest.fixture(scope="module")
def targets(golden) -> dict[str, np.ndarray]:
    shape = golden(NAME).arrays["train|default|out|default"].shape
    return {"default": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def test_hub_train_gives_the_recorded_updates_gradients_and_losses(
    tf1, module_dir, golden, targets
) -> None:
    expected = golden(NAME)
    found = tf1.hub_train(
        module_dir(NAME),
        expected.under(IN),
        targets,
        steps=5,
        learning_rate=0.1,
        projections=expected.under("train|default|proj"),
        tags={"train"},
    )
    start = expected.under("var")
    assert found.start.keys() == start.keys()
    assert all((found.start[name] == start[name]).all() for name in start)
    for wanted, given in (
        (expected.under("train|default|out"), found.outputs),
        (expected.under("train|default|after_updates"), found.update),
        (
            expected.under("train|default|grad"),
            {name: value for name, value in found.gradients.items() if value is not None},
        ),
    ):
        assert wanted
        assert given.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(given[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    losses = [array for _, array in sorted(expected.under("train|reg").items())]
    np.testing.assert_allclose(found.regularization, losses, rtol=1e-5)
    assert found.forward == {}
    assert found.losses == sorted(found.losses, reverse=True)
    assert found.losses[-1] < 0.9 * found.losses[0]
    # The logits are no part of the output; their L2 loss trains only the kernel.
    assert set(start) - set(found.trained) == {"Toy/logits/bias"}


def test_hub_train_trains_through_adam_and_a_cross_entropy(tf1, module_dir, golden) -> None:
    expected = golden("digits")
    inputs = expected.under("|default|in")
    logits = expected.under("|default|out")["default"]
    targets = np.roll(np.eye(logits.shape[1]), 1, 0)[np.arange(len(logits)) % logits.shape[1]]
    found = tf1.hub_train(
        module_dir("digits"),
        inputs,
        {"default": targets.astype(np.float32)},
        steps=3,
        optimizer="adam",
        loss="cross_entropy",
        tags={"train"},
    )
    assert np.isfinite(found.losses).all()
    assert found.gradients == {}


def test_hub_estimator_learns_with_the_module_in_its_model_fn(tf1, module_dir, golden) -> None:
    images = golden(NAME).under(IN)
    labels = np.arange(len(images["images"]))
    fitted = tf1.hub_estimator(module_dir(NAME), images, labels, steps=30, learning_rate=0.01)
    assert fitted.losses[1] < 0.5 * fitted.losses[0]
    assert fitted.logits.argmax(1).tolist() == labels.tolist()


def test_hub_client_gives_the_recorded_outputs_each_way(tf1, module_dir, golden) -> None:
    expected = golden(NAME)
    uses = tf1.hub_client(module_dir(NAME), expected.under("|default|in"))
    wanted = expected.under("|default|out")
    for way, outputs in uses.outputs.items():
        assert outputs.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=1e-6, err_msg=way)
    names = uses.facts["module_variables"]
    assert names == sorted(expected.under("var"))
    assert uses.facts["variables"] == {
        "first": [f"module/{name}" for name in names],
        "second": [f"module_1/{name}" for name in names],
        "nested": [f"outer/inner/of_its_own/{name}" for name in names],
    }
    assert uses.facts["tags"] == uses.facts["exported_tags"] == [[], ["train"]]
    assert (uses.facts["image_size"], uses.facts["channels"]) == ([16, 16], 3)
    assert uses.facts["infos"]["default"]["inputs"] == {"images": ["float32", [None, 16, 16, 3]]}
