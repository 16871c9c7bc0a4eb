"""What `inspect` says of a TF1 SavedModel, against what the real TensorFlow 1.15 loads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge._inspect.results import TF1_SAVED_MODEL
from tests.clients.tf1 import tf1_environ

# Runs in TensorFlow 1.15: saves a model, loads it again and prints what is there.
SCRIPT = """
import json, os, sys
import tensorflow as tf

path, vocabulary = sys.argv[1:]
with open(vocabulary, "w") as file:
    file.write("a\\nb\\nc\\n")


def build():
    words = tf.placeholder(tf.string, [None], name="words")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            tf.constant(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), 1)
    with tf.variable_scope("model", partitioner=tf.fixed_size_partitioner(2)):
        rows = tf.get_variable("embedding", [6, 3])
    scale = tf.get_variable("scale", [], use_resource=True, trainable=False)
    rows = tf.nn.embedding_lookup(rows, table.lookup(words), partition_strategy="div")
    return words, tf.identity(rows * scale, name="rows")


builder = tf.saved_model.Builder(path)
for tags in (["serve"], ["serve", "gpu"]):
    with tf.Graph().as_default(), tf.Session() as session:
        words, rows = build()
        tf.get_collection_ref(tf.GraphKeys.ASSET_FILEPATHS)
        session.run(tf.global_variables_initializer())
        signature = tf.saved_model.predict_signature_def({"words": words}, {"rows": rows})
        signatures = {"serving_default": signature}
        if len(tags) == 1:
            builder.add_meta_graph_and_variables(
                session, tags, signatures, main_op=tf.tables_initializer(),
                assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS))
        else:
            builder.add_meta_graph(
                tags, signatures, main_op=tf.tables_initializer(),
                assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS))
builder.save()
os.remove(vocabulary)

facts = []
for tags in (["serve"], ["serve", "gpu"]):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta_graph = tf.saved_model.load(session, tags, path)
        facts.append({
            "tags": sorted(tags),
            "nodes": len(graph.as_graph_def().node),
            "variables": [[v.op.name, v.dtype.base_dtype.name, v.shape.as_list(),
                           int(session.run(v).nbytes), "Var" in v.op.type]
                          for v in tf.global_variables()],
            "trainable": len(tf.trainable_variables()),
            "methods": {k: s.method_name for k, s in meta_graph.signature_def.items()},
            "rows": session.run("rows:0", {"words:0": ["a", "x"]}).shape,
        })
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tf1") / "model"


@pytest.fixture(scope="module")
def facts(path: Path, tf1_python: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [tf1_python, "-W", "ignore", "-c", SCRIPT, path, path.with_name("vocabulary.txt")],
        capture_output=True,
        text=True,
        check=False,
        env=tf1_environ(),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def report(path: Path, facts: list[dict[str, Any]]) -> bridge.InspectReport:
    return bridge.inspect(path)


def test_the_format_and_the_variants_are_told(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    assert (report.format, report.producer) == (TF1_SAVED_MODEL, "1.15.5")
    assert [variant.tags for variant in report.variants] == [one["tags"] for one in facts]
    assert [variant.nodes for variant in report.variants] == [one["nodes"] for one in facts]
    for variant, real in zip(report.variants, facts, strict=True):
        seen = {one.name: one.method for one in variant.signatures}
        assert seen == {k: v for k, v in real["methods"].items() if not k.startswith("__saved")}
        (signature,) = variant.signatures
        (words,), (rows,) = signature.inputs, signature.outputs
        assert (words.name, words.dtype, words.shape) == ("words", "string", [None])
        assert (rows.name, rows.dtype, rows.shape) == ("rows", "float32", [None, 3])
    assert report.callables == []


def test_variables_are_those_that_are_loaded(
    report: bridge.InspectReport, facts: list[dict[str, Any]]
) -> None:
    seen = {one.name: one for one in report.variables.items}
    real = facts[0]["variables"]
    assert set(seen) == {"model/embedding", "scale"}
    whole = seen["model/embedding"]
    parts = [one for one in real if one[0].startswith("model/embedding/part_")]
    assert (whole.shape, whole.parts, whole.kind) == ([6, 3], len(parts), "reference")
    assert whole.bytes == sum(one[3] for one in parts)
    assert seen["scale"].kind == "resource"
    assert report.variables.bytes == sum(one[3] for one in real)
    assert [whole.trainable, seen["scale"].trainable] == [True, False]
    assert facts[0]["trainable"] == len(parts)
    assert report.variables.not_stored == 0


def test_tables_and_assets_are_told(report: bridge.InspectReport) -> None:
    assert report.assets == [bridge.AssetInfo("vocabulary.txt", 6)]
    assert {(t.variant, t.op, t.asset) for t in report.tables} == {
        ("{serve}", "HashTableV2", "vocabulary.txt"),
        ("{gpu, serve}", "HashTableV2", "vocabulary.txt"),
    }


def test_the_conversion_says_what_to_do_first(report: bridge.InspectReport) -> None:
    assert report.conversion is not None
    (obstacle,) = report.conversion.obstacles
    assert obstacle.kind == "WrongKindError"
    assert obstacle.message.startswith("a TF1 SavedModel, not a TF1 Hub module")
    assert obstacle.hint is not None
    assert "create_module_spec_from_saved_model" in obstacle.hint


def test_the_release_that_wrote_it_can_run_it(report: bridge.InspectReport) -> None:
    major, minor = map(int, report.release.oldest.split("."))
    assert (major, minor) <= (1, 15)
