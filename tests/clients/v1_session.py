"""Runs a TF1 Hub module as it is, in today's TensorFlow's own v1 session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATE_COLLECTIONS = ("hub_module_attachments", "saved_model_assets")


@dataclass(frozen=True)
class V1Module:
    """A module's graph variant in a session, with its variables restored.

    Attributes:
      session: the session, on `graph`.
      graph: the graph.
      meta_graph: the variant's MetaGraphDef.
    """

    session: Any
    graph: Any
    meta_graph: Any

    def feeds(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Maps the module's placeholders to values, sparse and ragged ones by component."""
        feeds: dict[str, Any] = {}
        for name, info in self.meta_graph.signature_def[signature].inputs.items():
            value = inputs[name]
            for tensor, part in zip(tensor_names(info), parts(value), strict=True):
                feeds[tensor] = part
        return feeds

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Returns the plain tensors of every output of a signature."""
        outputs = self.meta_graph.signature_def[signature].outputs
        fetches = {name: tensor_names(info) for name, info in outputs.items()}
        return self.session.run(fetches, self.feeds(signature, inputs))


def tensor_names(info: Any) -> list[str]:
    """The plain tensors of a TensorInfo, in the order of the tensor's components."""
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if encoding == "composite_tensor":
        return [component.name for component in info.composite_tensor.components]
    return [info.name]


def parts(value: Any) -> list[Any]:
    """The plain arrays of a tensor, in the same order."""
    import tensorflow as tf

    return [part.numpy() for part in tf.nest.flatten(value, expand_composites=True)]


@contextmanager
def v1_control_flow() -> Iterator[None]:
    """Lets TensorFlow differentiate v1 loops and their TensorArrays as TensorFlow 1 did."""
    import tensorflow as tf

    tf.compat.v1.disable_control_flow_v2()
    try:
        yield
    finally:
        tf.compat.v1.enable_control_flow_v2()


@contextmanager
def v1_module(directory: Path, tags: Iterable[str]) -> Iterator[V1Module]:
    """Opens a graph variant of a TF1 Hub module, in a session that runs the graph as it is."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    v1 = tf.compat.v1
    proto = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    wanted = set(tags)
    (meta_graph,) = (m for m in proto.meta_graphs if set(m.meta_info_def.tags) == wanted)
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    assets = meta_graph.collection_def.get("saved_model_assets")
    for packed in assets.any_list.value if assets else ():
        asset = meta_graph_pb2.AssetFileDef()
        packed.Unpack(asset)
        node = nodes[asset.tensor_info.name.split(":")[0]]
        path = str(directory / "assets" / asset.filename)
        node.attr["value"].tensor.string_val[0] = path.encode()
    stripped = meta_graph_pb2.MetaGraphDef()
    stripped.CopyFrom(meta_graph)
    for key in STATE_COLLECTIONS:
        if key in stripped.collection_def:
            del stripped.collection_def[key]
    with tf.Graph().as_default() as graph, v1_control_flow():
        v1.train.import_meta_graph(stripped, clear_devices=True)
        config = v1.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        with v1.Session(graph=graph, config=config) as session:
            variables = v1.global_variables()
            if variables:
                v1.train.Saver(variables).restore(
                    session, str(directory / "variables" / "variables")
                )
            session.run(v1.tables_initializer())
            yield V1Module(session, graph, meta_graph)
