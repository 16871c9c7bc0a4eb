"""Runs TF1 Hub modules in sessions: by hub.Module, or today the variant's graph as it is."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from worker_application import DENSE, Application, Backward, taken
from worker_setup import Setup, short_device
from worker_training import descended, is_differentiable, moved_apart, projection

SPARSE_PARTS = ("indices", "values", "dense_shape")
SCOPE = "module"
HUB_COLLECTIONS = ("hub_module_attachments", "saved_model_assets")
"""Collections that only tensorflow-hub can read."""


class SessionModel:
    """A variant of a module in a session of its own.

    Attributes:
      variables: by their names in the module.
      trainable: those that training moves, likewise.
      losses: tensors of the regularization losses.
      placed: how many nodes each device ran, each signature counted once.
    """

    def __init__(self, setup: Setup, tags: Sequence[str], *, training: bool):
        self.setup = setup
        self.tags = frozenset(tags)
        self.training = training
        self.variables: dict[str, Any] = {}
        self.trainable: dict[str, Any] = {}
        self.losses: list[Any] = []
        self.placed: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._applications: dict[str, Application] = {}
        self._loss_gradients: dict[str, Any] | None = None
        self._graph = setup.tf.Graph()
        with self._building():
            setup.v1.set_random_seed(setup.lane["seed"])
            self._build()
            self._tables = setup.v1.tables_initializer()
        config = setup.session_config(rewrite=not training)
        self._session = setup.v1.Session(graph=self._graph, config=config)
        self._restore()
        self._session.run(self._tables)

    def run(self, signature: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Computes the outputs of a signature."""
        application = self._application(signature)
        feeds = application.feeds(values)
        metadata = options = None
        if signature not in self._seen:
            self._seen.add(signature)
            options = self.setup.v1.RunOptions(output_partition_graphs=True)
            metadata = self.setup.v1.RunMetadata()
        with self._graph.as_default():
            found = self._session.run(application.outputs, feeds, options, metadata)
        if metadata is not None:
            nodes = (node for graph in metadata.partition_graphs for node in graph.node)
            self.placed.update(short_device(node.device) for node in nodes)
        return {
            name: _value({part: _array(parts[part], found[name][part]) for part in parts})
            for name, parts in application.outputs.items()
        }

    def train(
        self, call: Mapping[str, Any], values: Mapping[str, Any], steps: Sequence[int], rate: float
    ) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
        """Takes gradients and steps as Runner.train says.

        Nothing changes while anything is read: the gradients come first, the update ops after
        them, in a run of their own that computes what they need once more.
        """
        self._restore()
        application = self._application(call["name"])
        feeds = application.feeds(values)
        projected = tuple(sorted(call["outputs"]))
        if projected not in application.backward:
            with self._building():
                application.backward[projected] = Backward(
                    self.setup, application, projected, self.trainable
                )
        backward = application.backward[projected]
        with_weights = dict(feeds)
        outputs = self._run(backward.outputs, feeds)
        for weight, output in zip(backward.weights, outputs):
            with_weights[weight.name] = projection(np.shape(output), weight.dtype.name)
        first = gradients = self._arrays(backward.gradients, with_weights)
        after = {}
        for step in range(1, max(steps, default=0) + 1):
            if step > 1:
                gradients = self._arrays(backward.gradients, with_weights)
            self._run(application.updates, feeds)
            moved = {name: self.variables[name] for name in gradients}
            self._load(descended(self._arrays(moved, {}), gradients, rate))
            if step in steps:
                after[step] = self._arrays(self.variables, {})
        return first, after

    def loss_values(self) -> list[float]:
        """Returns the regularization losses; HubModule has them only where it trains."""
        self._restore()
        return [float(loss) for loss in self._run(self.losses, {})]

    def loss_gradients(self) -> dict[str, Any]:
        """Returns the gradients of all losses as Runner.loss_gradients says."""
        sources = {n: v for n, v in self.variables.items() if is_differentiable(v.dtype)}
        if not self.losses or not sources:
            return {}
        if self._loss_gradients is None:
            with self._building():
                total = self.setup.tf.add_n(
                    [self.setup.tf.cast(loss, self.setup.tf.float64) for loss in self.losses]
                )
                self._loss_gradients = taken(self.setup.tf, total, sources)
        self._restore()
        try:
            values = self._arrays(sources, {})
            self._load({name: moved_apart(value) for name, value in values.items()})
            return self._arrays(self._loss_gradients, {})
        finally:
            self._restore()

    def _build(self) -> None:
        """Builds the state: variables, trainable variables and losses."""
        raise NotImplementedError

    def _apply(self, signature: str) -> Application:
        """Applies a signature in the graph."""
        raise NotImplementedError

    def _restore(self) -> None:
        """Gives all variables the values that the module has."""
        raise NotImplementedError

    def _application(self, signature: str) -> Application:
        if signature not in self._applications:
            with self._building():
                self._applications[signature] = self._apply(signature)
        return self._applications[signature]

    @contextlib.contextmanager
    def _building(self) -> Iterator[None]:
        with self._graph.as_default(), self._graph.device(self.setup.device):
            yield

    def _run(self, fetches: Any, feeds: Mapping[str, Any]) -> Any:
        if not fetches:
            return fetches
        with self._graph.as_default():
            return self._session.run(fetches, feeds)

    def _arrays(self, tensors: Mapping[str, Any], feeds: Mapping[str, Any]) -> dict[str, Any]:
        found = self._run(dict(tensors), feeds)
        return {name: _array(tensor, found[name]) for name, tensor in tensors.items()}

    def _load(self, values: Mapping[str, Any]) -> None:
        """Assigns values through the ops that initialize the variables."""
        # A reference variable's initializer is the tensor that it assigns.
        found = {name: self.variables[name].initializer for name in values}
        assigns = {name: getattr(assign, "op", assign) for name, assign in found.items()}
        while assigns:
            # Variables may share the tensor that they are initialized with: then one after another.
            names = {assign.inputs[1].name: name for name, assign in assigns.items()}
            feeds = {tensor: values[name] for tensor, name in names.items()}
            self._run([assigns.pop(name) for name in names.values()], feeds)


class HubModule(SessionModel):
    """What a client of TensorFlow 1 gets: hub.Module(path, trainable=..., tags=...)."""

    def _build(self) -> None:
        setup, v1 = self.setup, self.setup.v1
        self._module = setup.hub.Module(
            setup.lane["model"], trainable=self.training, tags=set(self.tags), name=SCOPE
        )
        start = f"{SCOPE}/"
        # Not module.variable_map, which takes the parts of partitioned variables together.
        self.variables = {v.op.name[len(start) :]: v for v in v1.global_variables()}
        self.trainable = {v.op.name[len(start) :]: v for v in v1.trainable_variables()}
        self.losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        self._initializer = v1.global_variables_initializer()

    def _apply(self, signature: str) -> Application:
        v1 = self.setup.v1
        infos = self._module.get_input_info_dict(signature)
        inputs = {name: self._placeholder(info.type_spec) for name, info in infos.items()}
        before = len(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
        outputs = self._module(inputs, signature=signature, as_dict=True)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)[before:]
        tf = self.setup.tf
        return Application(
            {name: components(tf, value) for name, value in inputs.items()},
            {name: components(tf, value) for name, value in outputs.items()},
            updates,
        )

    def _placeholder(self, spec: Any) -> Any:
        """Returns what a client would feed an input through."""
        tf, v1 = self.setup.tf, self.setup.v1
        if isinstance(spec, tf.TensorSpec):
            return v1.placeholder(spec.dtype, spec.shape)
        if isinstance(spec, tf.SparseTensorSpec):
            return v1.sparse_placeholder(spec.dtype)
        if not isinstance(spec, tf.RaggedTensorSpec):
            raise NotImplementedError(f"no input of the type {spec} can be fed")
        # In TensorFlow 1.15 these have no public names.
        depth, splits_dtype = spec._ragged_rank, spec._row_splits_dtype
        inner = spec._shape[depth + 1 :]
        flat = v1.placeholder(spec._dtype, self.setup.tf.TensorShape([None]).concatenate(inner))
        splits = [v1.placeholder(splits_dtype, [None]) for _ in range(depth)]
        return tf.RaggedTensor.from_nested_row_splits(flat, splits, validate=False)

    def _restore(self) -> None:
        self._run([self._initializer], {})


class PlainGraph(SessionModel):
    """The graph of a variant as it is, in TensorFlow 2, for which there is no hub.Module."""

    def _build(self) -> None:
        from tensorflow.core.protobuf import meta_graph_pb2

        v1 = self.setup.v1
        # TensorFlow must differentiate v1 loops and their TensorArrays as TensorFlow 1 did.
        v1.disable_control_flow_v2()
        self._meta_graph = self._read()
        stripped = meta_graph_pb2.MetaGraphDef()
        stripped.CopyFrom(self._meta_graph)
        for key in HUB_COLLECTIONS:
            stripped.collection_def.pop(key, None)
        v1.train.import_meta_graph(stripped, clear_devices=True)
        self.variables = {v.op.name: v for v in v1.global_variables()}
        self.trainable = {v.op.name: v for v in v1.trainable_variables()}
        self.losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        variables = v1.global_variables()
        self._saver = v1.train.Saver(variables) if variables else None

    def _read(self) -> Any:
        """Reads the variant; its constants of assets' paths get the paths of today."""
        from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

        directory = self.setup.lane["model"]
        with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
            proto = saved_model_pb2.SavedModel.FromString(file.read())
        found = [m for m in proto.meta_graphs if set(m.meta_info_def.tags) == self.tags]
        if not found:
            raise ValueError(f"the module has no variant with the tags {sorted(self.tags)}")
        nodes = {node.name: node for node in found[0].graph_def.node}
        for packed in found[0].collection_def["saved_model_assets"].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            path = os.path.join(directory, "assets", asset.filename)
            node = nodes[asset.tensor_info.name.split(":")[0]]
            node.attr["value"].tensor.string_val[0] = path.encode()
        return found[0]

    def _apply(self, signature: str) -> Application:
        v1 = self.setup.v1
        if signature not in self._meta_graph.signature_def:
            raise ValueError(f"there is no signature {signature!r}")
        definition = self._meta_graph.signature_def[signature]
        return Application(
            {name: self._tensors(info) for name, info in definition.inputs.items()},
            {name: self._tensors(info) for name, info in definition.outputs.items()},
            v1.get_collection(v1.GraphKeys.UPDATE_OPS),
        )

    def _tensors(self, info: Any) -> dict[str, Any]:
        """Returns the plain tensors of a TensorInfo by component."""
        from tensorflow.core.protobuf import struct_pb2

        encoding = info.WhichOneof("encoding")
        if encoding == "coo_sparse":
            names = {p: getattr(info.coo_sparse, f"{p}_tensor_name") for p in SPARSE_PARTS}
        elif encoding == "composite_tensor":
            kind = info.composite_tensor.type_spec.type_spec_class
            parts = [component.name for component in info.composite_tensor.components]
            if kind == struct_pb2.TypeSpecProto.SPARSE_TENSOR_SPEC:
                names = dict(zip(SPARSE_PARTS, parts))
            elif kind == struct_pb2.TypeSpecProto.RAGGED_TENSOR_SPEC:
                names = _ragged_parts(parts[0], parts[1:])
            else:
                raise NotImplementedError(f"no tensor of the type {kind} can be passed on")
        else:
            names = {DENSE: info.name}
        return {part: self._graph.get_tensor_by_name(name) for part, name in names.items()}

    def _restore(self) -> None:
        if self._saver is not None:
            path = os.path.join(self.setup.lane["model"], "variables", "variables")
            with self._graph.as_default():
                self._saver.restore(self._session, path)


def components(tf: Any, value: Any) -> dict[str, Any]:
    """Returns the plain tensors that a tensor is made of, by component."""
    if isinstance(value, tf.SparseTensor):
        return {part: getattr(value, part) for part in SPARSE_PARTS}
    if isinstance(value, tf.RaggedTensor):
        return _ragged_parts(value.flat_values, value.nested_row_splits)
    if isinstance(value, (tf.Tensor, tf.Variable)):
        return {DENSE: value}
    raise NotImplementedError(f"no {type(value).__name__} can be passed on")


def _ragged_parts(flat: Any, splits: Sequence[Any]) -> dict[str, Any]:
    parts = {"values": flat}
    for depth, tensor in enumerate(splits):
        parts[f"row_splits_{depth}"] = tensor
    return parts


def _value(parts: dict[str, Any]) -> Any:
    return parts.get(DENSE, parts)


def _array(tensor: Any, value: Any) -> Any:
    """Makes an array of what a session returned, which for scalars may be something else."""
    return np.asarray(value, tensor.dtype.base_dtype.as_numpy_dtype)
