"""What servers get of a SavedModel: they load its graph by its SignatureDefs, and not its objects.

TensorFlow 2 writes both. Each serving signature is a function among the objects, and in the graph
placeholders, one call of a function that computes the same, fed with these and with what it
captures, and the results of the call (tf.saved_model.save, `_generate_signatures`). How servers
fill tables is in bridge/_surfaces/served_tables.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.filled_tables import FilledTables
from bridge._surfaces.opened import OpenedSavedModel
from bridge._surfaces.served_tables import unfilled_tables
from bridge._surfaces.surface import Served
from bridge.dtypes import dtype_name
from bridge.graph import parse_tensor
from bridge.model import Shape, format_shape, shape_from_proto
from bridge.ops import CALLS
from bridge.proto import tf_pb
from bridge.saved_model.objects import ROOT
from bridge.saved_model.serving import INIT_OP
from bridge.saved_model.traces import Leaf, Trace

_NO_SIGNATURES = frozenset({INIT_OP, "__saved_model_train_op"})
_SPARSE_PARTS = ("indices", "values", "dense_shape")


class _UnknownFormError(Exception):
    """The graph is of a form that is not known; the message says how."""


def read_served(
    opened: OpenedSavedModel, contents: Contents, filled: FilledTables
) -> dict[str, Served]:
    """Returns what is served, by the names of signatures, and what INIT_OP does, by its name.

    Args:
      opened: the SavedModel.
      contents: digests of its functions.
      filled: reads what fills its tables.
    """
    reader = _Reader(opened, contents)
    definitions = opened.meta_graph.signature_def
    signatures = opened.tree.child(ROOT, "signatures")
    objects = {} if signatures is None else opened.tree.children(signatures)
    result: dict[str, Served] = {}
    for name in sorted((objects.keys() | set(definitions)) - _NO_SIGNATURES):
        functions = opened.tree.concrete_functions(objects.get(name))
        if not functions:
            result[name] = Served(unknown="no object stands for it")
        elif name not in definitions:
            result[name] = Served("there is no SignatureDef of it, so that no server finds it")
        else:
            trace = opened.ways.functions.trace(functions[0])
            try:
                result[name] = Served(reader.fault(definitions[name], trace))
            except _UnknownFormError as error:
                result[name] = Served(unknown=str(error))
    if (unfilled := unfilled_tables(opened, filled, reader.objects)) is not None:
        result[INIT_OP] = Served(unfilled)
    return result


class _Reader:
    def __init__(self, opened: OpenedSavedModel, contents: Contents):
        self._meta_graph = opened.meta_graph
        self._tree = opened.tree
        self._library = opened.graph.functions
        self._contents = contents
        self._nodes = {node.name: node for node in opened.meta_graph.graph_def.node}
        self.objects: dict[str, int] = {}
        """The object that each captured tensor is, by what the signatures before have said."""

    # -- signatures ----------------------------------------------------------------------------

    def fault(self, definition: tf_pb.SignatureDef, trace: Trace) -> str:
        """Says how a SignatureDef does not give what its function among the objects does.

        Raises:
          _UnknownFormError: it is not a call of a function.
        """
        call = self._call(definition)
        inputs = _keywords(definition, trace)
        outputs = {leaf.key: leaf for leaf in trace.outputs}
        if definition.outputs.keys() != outputs.keys():
            return f"it returns {_listed(definition.outputs)}, its object {_listed(outputs)}"
        if unlike := self._unlike_inputs(definition, trace, inputs):
            return unlike
        for name, leaf in outputs.items():
            if unlike := _unlike(definition.outputs[name], leaf):
                return f"its output {name!r} is {unlike}"
        given = [str(parse_tensor(name)) for name in call.input if not name.startswith("^")]
        captured = [tensor for tensor in given if tensor not in inputs]
        if len(captured) != len(trace.captures) or len(given) - len(captured) != len(inputs):
            return "the function that it calls is not fed what that of its object is"
        if unlike := self._other_captures(captured, trace):
            return unlike
        capture = dict(zip(captured, trace.captures, strict=True))
        there = self._contents.of_function(
            call.attr["f"].func.name,
            [_input(inputs[t]) if t in inputs else _capture(capture[t]) for t in given],
        )
        own = [_input(leaf.argument) for leaf in trace.inputs for _ in leaf.endpoint.components]
        wanted = self._contents.of_function(
            trace.function, [*own, *(_capture(number) for number in trace.captures)]
        )
        position = 0
        for name in outputs:
            for tensor in _tensors(definition.outputs[name]):
                if there[parse_tensor(tensor).output] != wanted[position]:
                    return f"its output {name!r} is not what its object computes"
                position += 1
        return ""

    def _call(self, definition: tf_pb.SignatureDef) -> tf_pb.NodeDef:
        """Returns the one node whose results are the outputs."""
        tensors = [parse_tensor(t) for info in definition.outputs.values() for t in _tensors(info)]
        names = {tensor.node for tensor in tensors}
        node = self._nodes.get(next(iter(names), ""))
        if len(names) != 1 or node is None or node.op not in CALLS:
            raise _UnknownFormError("its outputs are not the results of one call of a function")
        function = self._library.get(node.attr["f"].func.name)
        if function is None or len(function.signature.input_arg) != sum(
            not name.startswith("^") for name in node.input
        ):
            raise _UnknownFormError("it calls no function of the SavedModel")
        if any(tensor.output >= len(function.signature.output_arg) for tensor in tensors):
            raise _UnknownFormError("the function that it calls has fewer results")
        return node

    def _unlike_inputs(
        self, definition: tf_pb.SignatureDef, trace: Trace, inputs: Mapping[str, str]
    ) -> str:
        """Says how the placeholders are not what the function takes."""
        leaves = {leaf.argument: leaf for leaf in trace.inputs}
        if sorted(inputs.values()) != sorted(leaves):
            return f"it takes {_listed(definition.inputs)}, its object {_listed(leaves)}"
        for tensor, keyword in inputs.items():
            node = self._nodes.get(parse_tensor(tensor).node)
            if node is None or node.op != "Placeholder":
                raise _UnknownFormError(f"{tensor!r}, which it takes, is no placeholder")
            own = leaves[keyword].endpoint
            found = tf_pb.TensorInfo(dtype=node.attr["dtype"].type)
            found.tensor_shape.CopyFrom(node.attr["shape"].shape)
            said = [i for i in definition.inputs.values() if i.name in (tensor, f"{tensor}:0")]
            for info in (found, *said):
                shape = shape_from_proto(info.tensor_shape)
                if info.dtype != own.dtype or not _may_be(shape, own.shape):
                    return (
                        f"its input {keyword!r} is {_described(info.dtype, shape)}, that of its "
                        f"object {_described(own.dtype, own.shape)}"
                    )
        return ""

    def _other_captures(self, tensors: Sequence[str], trace: Trace) -> str:
        """Says that the function is fed other variables or tables than that of its object.

        The graph does not say which object a tensor is, but it is one only, and a variable often
        has the name that its object has.
        """
        own = [self._variable_name(number) for number in trace.captures]
        there = [self._shared_name(tensor) for tensor in tensors]
        is_permuted = own != there and "" not in own and sorted(own) == sorted(there)
        for number, tensor in zip(trace.captures, tensors, strict=True):
            if is_permuted or self.objects.setdefault(tensor, number) != number:
                return "the variables and tables that it reads are others than those of its object"
        return ""

    def _variable_name(self, number: int) -> str:
        is_variable = self._tree.kind(number) == "variable"
        return self._tree.nodes[number].variable.name if is_variable else ""

    def _shared_name(self, tensor: str) -> str:
        node = self._nodes.get(parse_tensor(tensor).node)
        return node.attr["shared_name"].s.decode("utf-8", "replace") if node is not None else ""


def _keywords(definition: tf_pb.SignatureDef, trace: Trace) -> dict[str, str]:
    """Returns the keyword of the function for each tensor that a SignatureDef takes.

    One that is called otherwise is that which is left: Python has no keyword `self`.
    """
    keywords = [leaf.argument for leaf in trace.inputs]
    parts: dict[str, str] = {}
    for key in sorted(definition.inputs):
        info = definition.inputs[key]
        tensors = _tensors(info)
        for place, tensor in enumerate(tensors):
            name = key if len(tensors) == 1 else f"{key}_{_part(info, place)}"
            while name in definition.inputs and name != key:
                name += "_"
            parts[tensor] = name
    left = [name for name in keywords if name not in parts.values()]
    others = [tensor for tensor, name in parts.items() if name not in keywords]
    if len(left) == len(others) == 1:
        parts[others[0]] = left[0]
    elif left and len(left) == len(others):
        raise _UnknownFormError(f"its inputs are not called like the keywords {_listed(left)}")
    return {str(parse_tensor(tensor)): name for tensor, name in parts.items()}


def _part(info: tf_pb.TensorInfo, place: int) -> str:
    return _SPARSE_PARTS[place] if info.HasField("coo_sparse") else str(place)


def _tensors(info: tf_pb.TensorInfo) -> list[str]:
    """Returns the names of the tensors that an input or output is made of."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if info.HasField("composite_tensor"):
        return [component.name for component in info.composite_tensor.components]
    return [info.name]


def _unlike(info: tf_pb.TensorInfo, leaf: Leaf) -> str:
    """Says how an output is not what its object returns; empty where it is."""
    endpoint = leaf.endpoint
    count = len(_tensors(info))
    if count != len(endpoint.components):
        return f"made of {count} tensors, that of its object of {len(endpoint.components)}"
    shape = shape_from_proto(info.tensor_shape)
    if info.HasField("composite_tensor"):  # only its type spec has these
        return ""
    if info.dtype == endpoint.dtype and _may_be(shape, endpoint.shape):
        return ""
    own = _described(endpoint.dtype, endpoint.shape)
    return f"{_described(info.dtype, shape)}, that of its object {own}"


def _may_be(shape: Shape, other: Shape) -> bool:
    """Whether two static shapes say nothing that contradicts the other."""
    if shape is None or other is None:
        return True
    pairs = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(a == b or a is None or b is None for a, b in pairs)


def _described(dtype: int, shape: Shape) -> str:
    return f"{dtype_name(dtype)}{format_shape(shape)}"


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "nothing"


def _input(keyword: str) -> bytes:
    return digest("input", keyword)


def _capture(number: int) -> bytes:
    return digest("object", str(number))
