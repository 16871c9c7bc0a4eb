"""Converts a genuine TF1 Hub module, uses and fine-tunes the result, takes it back, proves it all.

    python examples/demo.py

The exit status is 1 unless every image is classified right, the outputs are those that TensorFlow
1.15 computed, fine-tuning teaches the model what it did not know, the module that comes back is
the one that went in, and the verdict of the parity run is pass.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Before TensorFlow is imported: no logs, and the CPU, which is plenty for so small a model.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
from rich.console import Console
from rich.table import Table

import bridge
from bridge._parity.html import render
from bridge._parity.results import Verdict
from bridge.hub_module import read_hub_module
from bridge.report import Report
from bridge.tensor_info import describe
from tests.clients.tf1 import Tf1Client, Tf1Error, find_tf1_python

ROOT = Path(__file__).resolve().parent.parent
MODULE = Path("testdata/modules/digits")
SAVED_MODEL = Path("build/demo/digits")
MODULE_AGAIN = Path("build/demo/module")
IMAGES = Path("testdata/images/digits")
REPORT = Path("build/demo/parity.html")
GOLDEN = Path("testdata/golden/digits.npz")
EPOCHS = 6
TOLERANCE = 1e-4  # Logits are around 10; kernels differ between CPUs.

console = Console(highlight=False)


class DemoError(Exception):
    """What the demo claims is not so."""


def main() -> int:
    """Runs the demo; returns the exit status."""
    os.chdir(ROOT)
    try:
        convert()
        with legacy_client() as legacy:
            tf = import_tensorflow()
            classify(tf)
            fine_tune()
            convert_back()
            compare_modules()
            compare_in_tensorflow_1(legacy)
        prove()
    except DemoError as error:
        console.print(f"[bold red]error:[/] {error}")
        return 1
    say_what_next()
    return 0


@contextlib.contextmanager
def legacy_client() -> Iterator[Future[Tf1Client] | None]:
    """Starts TensorFlow 1.15, where there is one, beside all else: it takes some seconds."""
    python = find_tf1_python()
    if python is None:
        yield None
        return

    def start() -> Tf1Client:
        client.ping()
        return client

    with Tf1Client(python) as client, ThreadPoolExecutor(1) as pool:
        yield pool.submit(start)


def title(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]")


def say_command(command: str) -> None:
    console.print(f"   [dim]$[/] {command}", soft_wrap=True)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards stderr, which TensorFlow's C++ side writes to before it reads any setting."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def convert() -> None:
    title("1. Convert a module that TensorFlow 1.15 wrote")
    say_command(f"hubbridge to-saved-model {MODULE} {SAVED_MODEL}")
    start = time.monotonic()
    report = bridge.to_saved_model(MODULE, SAVED_MODEL, overwrite=True, verify=False)
    seconds = time.monotonic() - start
    kept = report.kept
    console.print(
        f"   {kept.variants} graph variants, {kept.variables} variables and {kept.update_ops} "
        f"update ops in [bold]{seconds:.2f} s[/]"
    )
    if "tensorflow" in sys.modules:
        raise DemoError("the conversion imported TensorFlow, which it never should")
    console.print("   TensorFlow was not needed for it.")


def import_tensorflow() -> Any:
    with console.status("Importing TensorFlow 2"), quiet_stderr():
        import tensorflow as tf

        tf.constant(0)  # what there is to say about devices is said now
    tf.get_logger().setLevel("ERROR")
    return tf


def read_image(tf: Any, path: Path) -> Any:
    """Returns an image as float32 [height, width, 3] in [0, 1]."""
    image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
    return tf.image.convert_image_dtype(image, tf.float32)


def classify(tf: Any) -> None:
    title(f"2. Classify images with it in TensorFlow {tf.__version__}")
    model = tf.saved_model.load(str(SAVED_MODEL))
    paths = sorted(IMAGES.glob("*_label*.png"))
    images = tf.stack([read_image(tf, path) for path in paths])
    scores = tf.nn.softmax(model.image_classification(images)).numpy()
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("image", "true", "predicted", "", "sure"):
        table.add_column(heading, justify="left" if heading == "image" else "right")
    wrong = []
    for path, row in zip(paths, scores, strict=True):
        true, predicted = int(path.stem[-1]), int(row.argmax())
        mark = "[green]✓[/]" if predicted == true else "[red]✗[/]"
        table.add_row(path.name, str(true), str(predicted), mark, f"{row.max():.0%}")
        if predicted != true:
            wrong.append(path.name)
    console.print(table)
    if wrong or not paths:
        raise DemoError(f"of {len(paths)} images, {len(wrong)} are classified wrong: {wrong}")
    difference = difference_from_tf1(model)
    if not difference <= TOLERANCE:
        raise DemoError(f"TensorFlow 1.15 computed other logits, by up to {difference:.1e}")
    console.print(f"\n   {len(paths)} of {len(paths)} right, none of them seen in training.")
    console.print(f"   TensorFlow 1.15 computed the same logits, within {difference:.0e}.")


def difference_from_tf1(model: Any) -> float:
    """Returns how far the logits are from those that TensorFlow 1.15 recorded, at most."""
    with np.load(GOLDEN) as golden:
        images = golden["|default|in|images"]
        expected = golden["|default|out|default"]
    return float(np.abs(model(images).numpy() - expected).max())


def fine_tune() -> None:
    with quiet_stderr():
        import tensorflow_hub as hub
        import tf_keras

    title("3. Fine-tune it with hub.KerasLayer: white on black becomes black on white")
    sys.path.insert(0, "testdata")
    import digits_data

    tf_keras.utils.set_random_seed(0)
    train_images, train_labels, test_images, test_labels = digits_data.load()
    train_images, test_images = 1.0 - train_images, 1.0 - test_images
    model = tf_keras.Sequential([hub.KerasLayer(str(SAVED_MODEL), trainable=True)])
    model.compile(
        optimizer=tf_keras.optimizers.Adam(3e-3),
        loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def accuracy() -> float:
        return float(model.evaluate(test_images, test_labels, verbose=0)[1])

    before = accuracy()
    history = model.fit(
        train_images, train_labels, batch_size=64, epochs=EPOCHS, verbose=0, shuffle=True
    )
    after = accuracy()
    losses = history.history["loss"]
    console.print("   loss      " + " → ".join(f"{loss:.2f}" for loss in losses))
    console.print(
        f"   accuracy  [red]{before:.0%}[/] → [green]{after:.0%}[/] on {len(test_labels)} digits "
        f"held out, after {EPOCHS} epochs"
    )
    if not (losses[-1] < losses[0] and after > max(before, 0.8)):
        raise DemoError("fine-tuning did not teach the model anything")


def convert_back() -> None:
    title("4. Make it a TF1 Hub module again")
    say_command(f"hubbridge to-hub-module {SAVED_MODEL} {MODULE_AGAIN}")
    start = time.monotonic()
    kept = bridge.to_hub_module(SAVED_MODEL, MODULE_AGAIN, overwrite=True, verify=False).kept
    seconds = time.monotonic() - start
    console.print(
        f"   {kept.variants} graph variants, {kept.variables} variables and {kept.update_ops} "
        f"update ops in [bold]{seconds:.2f} s[/]"
    )


def compare_modules() -> None:
    """Compares what the modules say of themselves, and their variables, byte for byte."""
    before, after = (facts_of(directory) for directory in (MODULE, MODULE_AGAIN))
    for what, wanted in before.items():
        if after[what] != wanted:
            raise DemoError(f"the module that came back has other {what}")
        console.print(f"   [green]✓[/] the same {what}")


def facts_of(directory: Path) -> dict[str, Any]:
    """Returns what a module is, by what to call it."""
    model = read_hub_module(directory, Report(str(directory), None, ""))
    shards = [shard.read_bytes() for shard in model.shards]
    variants = model.variants.items()
    signatures = {
        (tags, name): (describe(signature.inputs), describe(signature.outputs))
        for tags, variant in variants
        for name, signature in variant.signatures.items()
    }
    values = {
        name: (v.dtype, v.shape, shards[v.data.shard][v.data.offset : v.data.offset + v.data.size])
        for name, v in model.variables.items()
    }
    return {
        f"{len(signatures)} signatures, with all names and shapes": signatures,
        "attachments": {tags: variant.attachments for tags, variant in variants},
        f"{len(values)} variables, byte for byte": values,
    }


def compare_in_tensorflow_1(legacy: Future[Tf1Client] | None) -> None:
    """Lets TensorFlow 1.15 run both modules, where there is one."""
    if legacy is None:
        console.print(
            "   [dim]No TensorFlow 1.15 here to run both: python tools/tf1_env.py makes one[/]"
        )
        return
    with np.load(GOLDEN) as golden:
        inputs = {"images": golden["|default|in|images"]}
    with console.status("Waiting for TensorFlow 1.15"):
        try:
            client = legacy.result()
        except (OSError, Tf1Error):
            console.print("   [dim]TensorFlow 1.15 does not start here, so nobody ran both[/]")
            return
        version = client.ping()["tensorflow"]
        one, other = (client.hub_apply(path, inputs) for path in (MODULE, MODULE_AGAIN))
    difference = max(float(np.abs(one[key] - other[key]).max()) for key in one)
    if not difference <= TOLERANCE:
        raise DemoError(f"TensorFlow {version} computes other outputs, by up to {difference:.1e}")
    same = "the same outputs" if difference == 0 else f"the same outputs within {difference:.0e}"
    console.print(f"   [green]✓[/] {same} in TensorFlow {version}, which runs both")


def prove() -> None:
    """Runs the module and the SavedModel side by side, as a build would."""
    title("5. Prove that the SavedModel is the module")
    say_command(f"hubbridge parity {MODULE} {SAVED_MODEL} --train --report {REPORT}")
    with console.status("Running both") as status:
        found = bridge.parity(
            MODULE,
            SAVED_MODEL,
            tf1_python=find_tf1_python(),
            train=True,
            samples=4,
            progress=lambda what, done, total: status.update(f"{what}, {done} of {total} batches"),
        )
    REPORT.write_text(render(found), encoding="utf-8")
    for runtime in dict.fromkeys(f"{r.side}: {r.name}" for r in found.runtimes):
        console.print(f"   {runtime}")
    console.print(
        f"   {len(found.structure)} facts, {len(found.comparisons)} outputs and "
        f"{len(found.training)} results of training compared"
    )
    mark = "[bold green]✓[/]" if found.verdict is Verdict.PASS else "[bold red]✗[/]"
    console.print(f"   {mark} verdict: [bold]{found.verdict.value}[/], {found.decided_by}")
    console.print(f"   The whole report: [bold]{REPORT}[/]")
    if found.verdict is not Verdict.PASS:
        raise DemoError("the SavedModel is not the module")


def say_what_next() -> None:
    title("Try next")
    commands = {
        f"saved_model_cli show --dir {SAVED_MODEL} --all": "what can be served",
        "hubbridge to-saved-model testdata/modules/text_vocab build/demo/text": "text, with tables",
        "hubbridge to-saved-model YOUR_MODULE OUT --dry-run": "what would be kept of yours",
        "hubbridge to-hub-module YOUR_SAVED_MODEL OUT --dry-run": "the same, the other way",
    }
    console.print("   [dim]source .venv/bin/activate[/]")
    for command, what in commands.items():
        console.print(f"   {command}", soft_wrap=True)
        console.print(f"     [dim]{what}[/]")


if __name__ == "__main__":
    sys.exit(main())
