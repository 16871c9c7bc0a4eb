"""Whatever is done to a module's graph, it is converted or refused: no other exception gets out."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.proto import tf_pb
from tests.conftest import TESTDATA

MODULES = (
    "assets_many",
    "control_flow_ref",
    "control_flow_resource",
    "multi_input",
    "partitioned",
    "ragged_input",
    "rnn",
    "sparse_input",
    "text_vocab",
    "toy_image_ref",
)
ROUNDS = 60


class Mutator:
    """Changes a MetaGraphDef at random, in ways that protobuf still reads."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def change(self, meta_graph: Any) -> None:
        """Does one of the things below, if there is something to do it to."""
        node = self.pick(meta_graph.graph_def.node)
        self.pick(self.changes())(meta_graph, node)

    def changes(self) -> list[Callable[[Any, Any], None]]:
        return [
            self.delete_attr,
            self.copy_attr,
            self.change_op,
            self.rename,
            self.delete_node,
            self.rewire,
            self.cut_input,
            self.swap_inputs,
            self.add_control_input,
            self.change_collection,
            self.delete_collection,
            self.change_tensor_info,
            self.delete_tensor_info,
            self.return_an_input,
        ]

    def pick(self, items: Sequence[Any]) -> Any:
        return items[self.random.randrange(len(items))]

    def delete_attr(self, _: Any, node: Any) -> None:
        if node.attr:
            del node.attr[self.pick(sorted(node.attr))]

    def copy_attr(self, meta_graph: Any, node: Any) -> None:
        other = self.pick(meta_graph.graph_def.node)
        if node.attr and other.attr:
            name = self.pick(sorted(node.attr))
            node.attr[name].CopyFrom(other.attr[self.pick(sorted(other.attr))])

    def change_op(self, meta_graph: Any, node: Any) -> None:
        node.op = self.pick(meta_graph.graph_def.node).op

    def rename(self, meta_graph: Any, node: Any) -> None:
        node.name = self.pick(meta_graph.graph_def.node).name + "x"

    def delete_node(self, meta_graph: Any, node: Any) -> None:
        meta_graph.graph_def.node.remove(node)

    def rewire(self, meta_graph: Any, node: Any) -> None:
        if node.input:
            source = self.pick(meta_graph.graph_def.node).name + self.pick(["", ":0", ":1"])
            node.input[self.random.randrange(len(node.input))] = source

    def cut_input(self, _: Any, node: Any) -> None:
        if node.input:
            del node.input[self.random.randrange(len(node.input))]

    def swap_inputs(self, _: Any, node: Any) -> None:
        if node.input:
            inputs = list(node.input)
            self.random.shuffle(inputs)
            node.input[:] = inputs

    def add_control_input(self, meta_graph: Any, node: Any) -> None:
        node.input.append("^" + self.pick(meta_graph.graph_def.node).name)

    def change_collection(self, meta_graph: Any, _: Any) -> None:
        if not meta_graph.collection_def:
            return
        collection = meta_graph.collection_def[self.pick(sorted(meta_graph.collection_def))]
        names, values = collection.node_list.value, collection.bytes_list.value
        if collection.WhichOneof("kind") == "node_list" and names:
            names[0] = self.pick(meta_graph.graph_def.node).name + self.pick(["", ":0"])
        elif collection.WhichOneof("kind") == "bytes_list" and values:
            changed = bytearray(values[0])
            changed[self.random.randrange(len(changed))] = self.random.randrange(256)
            values[0] = bytes(changed)

    def delete_collection(self, meta_graph: Any, _: Any) -> None:
        if meta_graph.collection_def:
            del meta_graph.collection_def[self.pick(sorted(meta_graph.collection_def))]

    def tensor_infos(self, meta_graph: Any) -> Any:
        signature = meta_graph.signature_def[self.pick(sorted(meta_graph.signature_def))]
        return self.pick([signature.inputs, signature.outputs])

    def change_tensor_info(self, meta_graph: Any, _: Any) -> None:
        infos = self.tensor_infos(meta_graph)
        if infos:
            info = infos[self.pick(sorted(infos))]
            if info.WhichOneof("encoding") == "name":
                info.name = self.pick(meta_graph.graph_def.node).name + ":0"

    def delete_tensor_info(self, meta_graph: Any, _: Any) -> None:
        infos = self.tensor_infos(meta_graph)
        if infos:
            del infos[self.pick(sorted(infos))]

    def return_an_input(self, meta_graph: Any, _: Any) -> None:
        signature = meta_graph.signature_def[self.pick(sorted(meta_graph.signature_def))]
        if signature.inputs:
            key = self.pick(sorted(signature.inputs))
            signature.outputs["same"].CopyFrom(signature.inputs[key])


@pytest.mark.parametrize("module", MODULES)
def test_a_changed_graph_is_converted_or_refused(module: str, tmp_path: Path) -> None:
    mutator = Mutator(seed=len(module) * 1000 + MODULES.index(module))
    source, dest = tmp_path / "module", tmp_path / "out"
    shutil.copytree(TESTDATA / "modules" / module, source)
    original = (source / "saved_model.pb").read_bytes()
    exit_codes = set()
    for _ in range(ROUNDS):
        proto = tf_pb.SavedModel.FromString(original)
        for _ in range(mutator.random.randint(1, 3)):
            mutator.change(mutator.pick(proto.meta_graphs))
        (source / "saved_model.pb").write_bytes(proto.SerializeToString())
        try:
            bridge.to_saved_model(source, dest, overwrite=True)
            exit_codes.add(0)
        except bridge.HubBridgeError as error:
            exit_codes.add(error.exit_code)
    # Not all changes are harmless, not all are fatal, and none is a usage or internal error.
    assert exit_codes in ({0, 4}, {0, 3, 4})
