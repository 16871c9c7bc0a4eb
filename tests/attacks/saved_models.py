"""Every abuse of a SavedModel that was ever tried: a function that makes it, and what must be said.

Each builder gets a new directory and returns what is given as SOURCE.
"""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bridge
from bridge.bundle import BytesTensor, StringTensor, write_bundle
from bridge.errors import (
    HubBridgeError,
    MalformedError,
    SourceNotFoundError,
    UnsafeError,
    UnsupportedError,
    WrongKindError,
)
from bridge.proto import record_pb, tf_pb
from bridge.saved_model.objects import OBJECT_GRAPH_KEY
from bridge.saved_model.record import RECORD
from bridge.saved_model.structured_value import tuple_of
from tests.attacks.edit import saved_model
from tests.conftest import TESTDATA
from tests.saved_model.handmade import (
    FLOAT,
    ROOT,
    Handmade,
    Value,
    call,
    function,
    op,
    scaled,
    spec,
)
from tests.saved_model.tiny import constant

Build = Callable[[Path], Path]

MODULES = TESTDATA / "modules"


@dataclass(frozen=True)
class Attack:
    """An abuse.

    Attributes:
      build: makes it in a new directory.
      error: the class of the error it must end with.
      words: what the error or its hint must say.
    """

    build: Build
    error: type[HubBridgeError]
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.build.__name__


def _good() -> Handmade:
    """Multiplies by a variable."""
    model = Handmade()
    weights = model.variable("weights", [1.0, 2.0], attribute="weights")
    read = op("read", "ReadVariableOp", "handle", dtype=FLOAT)
    product = op("y", "Mul", "x", "read:value:0", T=FLOAT)
    args = {"x": FLOAT, "handle": tf_pb.DT_RESOURCE}
    made = function("multiply", [read, product], {"y": "y:z:0"}, args)
    model.method("__call__", [model.trace(made, [spec()], captures=[weights])])
    return model


def _calling(made: tf_pb.FunctionDef, *more: tf_pb.FunctionDef) -> Handmade:
    """Calls a function from a vector to one, which may call others."""
    model = Handmade()
    model.library.function.extend(more)
    model.method("__call__", [model.trace(made, [spec()])])
    return model


# -- what SOURCE is --------------------------------------------------------------------------------


def tf1_hub_module(directory: Path) -> Path:
    return MODULES / "text_vocab"


def tf1_saved_model(directory: Path) -> Path:
    shutil.copytree(MODULES / "text_vocab", directory / "model")
    (directory / "model" / "tfhub_module.pb").unlink()
    return directory / "model"


def keras_file(directory: Path) -> Path:
    path = directory / "model.keras"
    path.write_bytes(b"PK\3\4")
    return path


def keras_h5_file(directory: Path) -> Path:
    path = directory / "model.H5"
    path.write_bytes(b"\x89HDF\r\n")
    return path


def keras_weights_file(directory: Path) -> Path:
    path = directory / "model.weights.h5"
    path.touch()
    return path


def directory_with_a_keras_file(directory: Path) -> Path:
    (directory / "model.keras").touch()
    return directory


def empty_directory(directory: Path) -> Path:
    return directory


def absent(directory: Path) -> Path:
    return directory / "absent"


def saved_model_of_no_bytes(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / "saved_model.pb").write_bytes(b"")
    return path


def saved_model_that_is_text(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / "saved_model.pb").unlink()
    (path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")
    return path


def saved_model_that_is_html(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / "saved_model.pb").write_text("<!DOCTYPE html><html></html>")
    return path


def saved_model_that_is_cut(directory: Path) -> Path:
    path = _good().write(directory / "model")
    data = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(data[:-7])
    return path


def saved_model_that_is_a_directory(directory: Path) -> Path:
    (directory / "saved_model.pb").mkdir()
    return directory


def saved_model_that_is_a_link(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / "saved_model.pb").rename(directory / "elsewhere")
    (path / "saved_model.pb").symlink_to(directory / "elsewhere")
    return path


def two_models_in_one(directory: Path) -> Path:
    path = _good().write(directory / "model")
    with saved_model(path) as message:
        message.meta_graphs.add().CopyFrom(message.meta_graphs[0])
    return path


def pipe_inside(directory: Path) -> Path:
    path = _good().write(directory / "model")
    os.mkfifo(path / "pipe")
    return path


# -- the checkpoint --------------------------------------------------------------------------------

INDEX = "variables/variables.index"
SHARD = "variables/variables.data-00000-of-00001"


def checkpoint_that_is_absent(directory: Path) -> Path:
    path = _good().write(directory / "model")
    shutil.rmtree(path / "variables")
    return path


def index_of_no_bytes(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / INDEX).write_bytes(b"")
    return path


def index_that_is_cut(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / INDEX).write_bytes((path / INDEX).read_bytes()[:-9])
    return path


def shard_that_is_absent(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / SHARD).unlink()
    return path


def shard_of_no_bytes(directory: Path) -> Path:
    path = _good().write(directory / "model")
    (path / SHARD).write_bytes(b"")
    return path


def shard_whose_variable_is_garbled(directory: Path) -> Path:
    path = _good().write(directory / "model")
    weights = b"\0\0\x80\x3f\0\0\0\x40"
    data = (path / SHARD).read_bytes()
    assert weights in data
    (path / SHARD).write_bytes(data.replace(weights, weights[::-1]))
    return path


def shard_whose_objects_are_garbled(directory: Path) -> Path:
    path = _good().write(directory / "model")
    data = (path / SHARD).read_bytes()
    assert b"VARIABLE_VALUE" in data
    (path / SHARD).write_bytes(data.replace(b"VARIABLE_VALUE", b"VARIABLE_VALVE"))
    return path


def _with_checkpoint(directory: Path, extras: dict[str, Any]) -> Path:
    path = _good().write(directory / "model")
    shutil.rmtree(path / "variables")
    (path / "variables").mkdir()
    write_bundle(path / "variables", "variables", [], {}, extras)
    return path


def checkpoint_without_objects(directory: Path) -> Path:
    return _with_checkpoint(directory, {"weights": BytesTensor(FLOAT, (2,), bytes(8))})


def checkpoint_whose_objects_are_no_message(directory: Path) -> Path:
    return _with_checkpoint(directory, {OBJECT_GRAPH_KEY: StringTensor((b"\xff" * 40,))})


def checkpoint_whose_objects_have_negative_numbers(directory: Path) -> Path:
    graph = tf_pb.TrackableObjectGraph()
    graph.nodes.add().children.add(node_id=-1, local_name="weights")
    attributes = graph.nodes[0].attributes
    attributes.add(name="VARIABLE_VALUE", checkpoint_key="key")
    values = BytesTensor(FLOAT, (2,), bytes(8))
    text = StringTensor((graph.SerializeToString(),))
    return _with_checkpoint(directory, {OBJECT_GRAPH_KEY: text, "key": values})


def checkpoint_without_the_variable(directory: Path) -> Path:
    text = StringTensor((tf_pb.TrackableObjectGraph(nodes=[{}]).SerializeToString(),))
    return _with_checkpoint(directory, {OBJECT_GRAPH_KEY: text})


# -- objects ---------------------------------------------------------------------------------------


@contextmanager
def _objects(directory: Path, model: Handmade | None = None) -> Any:
    """Gives the objects of a SavedModel to change."""
    path = (model or _good()).write(directory / "model")
    with saved_model(path) as message:
        yield message.meta_graphs[0].object_graph_def


def no_objects(directory: Path) -> Path:
    with _objects(directory) as objects:
        del objects.nodes[:]
    return directory / "model"


def child_that_is_absent(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[0].children[0].node_id = 99
    return directory / "model"


def child_of_a_negative_number(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[0].children[0].node_id = -1
    return directory / "model"


def capture_that_is_absent(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions["multiply"].bound_inputs[0] = 1000
    return directory / "model"


def capture_of_a_negative_number(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions["multiply"].bound_inputs[0] = -2
    return directory / "model"


def capture_of_the_root(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions["multiply"].bound_inputs[0] = 0
    return directory / "model"


def capture_of_a_function(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions["multiply"].bound_inputs[0] = 2
    return directory / "model"


def captures_that_no_argument_takes(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions["multiply"].bound_inputs.extend([1] * 5)
    return directory / "model"


def variable_that_nothing_leads_to(directory: Path) -> Path:
    with _objects(directory) as objects:
        kept = [c for c in objects.nodes[0].children if c.local_name != "weights"]
        del objects.nodes[0].children[:]
        objects.nodes[0].children.extend(kept)
    return directory / "model"


def variable_of_no_fixed_shape(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[1].variable.shape.dim[0].size = -1
    return directory / "model"


def variable_of_another_shape(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[1].variable.shape.dim[0].size = 3
    return directory / "model"


def variable_of_another_dtype(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[1].variable.dtype = tf_pb.DT_INT32
    return directory / "model"


def variable_of_an_unknown_dtype(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[1].variable.dtype = 77
    return directory / "model"


def nothing_to_call(directory: Path) -> Path:
    model = Handmade()
    model.variable("weights", attribute="weights")
    return model.write(directory / "model")


def only_called_in_training(directory: Path) -> Path:
    model = Handmade()
    traces = [model.trace(scaled("double", 2.0), [spec(), Value(bool_value=True)])]
    model.method("__call__", traces, ["x", "training"])
    return model.write(directory / "model")


# -- functions -------------------------------------------------------------------------------------


def call_of_an_absent_function(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.nodes[2].function.concrete_functions[0] = "absent"
    return directory / "model"


def function_that_nothing_describes(directory: Path) -> Path:
    with _objects(directory) as objects:
        objects.concrete_functions.clear()
    return directory / "model"


def function_that_the_library_lacks(directory: Path) -> Path:
    path = _good().write(directory / "model")
    with saved_model(path) as message:
        del message.meta_graphs[0].graph_def.library.function[:]
    return path


def two_functions_of_one_name(directory: Path) -> Path:
    path = _good().write(directory / "model")
    with saved_model(path) as message:
        functions = message.meta_graphs[0].graph_def.library.function
        functions.add().CopyFrom(functions[0])
    return path


@contextmanager
def _description(directory: Path) -> Any:
    """Gives the description of the function `double` to change."""
    with _objects(directory, _calling(scaled("double", 2.0))) as objects:
        yield objects.concrete_functions["double"]


def arguments_that_are_no_pair(directory: Path) -> Path:
    with _description(directory) as description:
        del description.canonicalized_input_signature.tuple_value.values[1:]
    return directory / "model"


def description_of_too_many_arguments(directory: Path) -> Path:
    with _description(directory) as description:
        positional = description.canonicalized_input_signature.tuple_value.values[0]
        positional.tuple_value.values.add().CopyFrom(spec("z"))
    return directory / "model"


def description_of_too_few_arguments(directory: Path) -> Path:
    with _description(directory) as description:
        del description.canonicalized_input_signature.tuple_value.values[0].tuple_value.values[:]
    return directory / "model"


def description_of_another_dtype(directory: Path) -> Path:
    with _description(directory) as description:
        description.output_signature.tensor_spec_value.dtype = tf_pb.DT_INT32
    return directory / "model"


def result_of_an_unknown_class(directory: Path) -> Path:
    with _description(directory) as description:
        unknown = tf_pb.TypeSpecProto(type_spec_class_name="my.Own", num_flat_components=1)
        unknown.type_spec_class = 12  # REGISTERED_TYPE_SPEC
        description.output_signature.CopyFrom(Value(type_spec_value=unknown))
    return directory / "model"


def ragged_result_of_a_negative_rank(directory: Path) -> Path:
    with _description(directory) as description:
        state = tuple_of([Value(), Value(), Value(int64_value=-5)])
        ragged = tf_pb.TypeSpecProto(type_state=state)
        ragged.type_spec_class = tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC
        description.output_signature.CopyFrom(Value(type_spec_value=ragged))
    return directory / "model"


def sparse_result_of_one_tensor(directory: Path) -> Path:
    with _description(directory) as description:
        sparse = tf_pb.TypeSpecProto(type_state=tuple_of([Value(), Value()]))
        sparse.type_spec_class = tf_pb.TypeSpecProto.SPARSE_TENSOR_SPEC
        description.output_signature.CopyFrom(Value(type_spec_value=sparse))
    return directory / "model"


def value_of_an_unknown_kind(directory: Path) -> Path:
    with _description(directory) as description:
        positional = description.canonicalized_input_signature.tuple_value.values[0]
        # Field 200 is none that StructuredValue has.
        positional.tuple_value.values.add().MergeFromString(b"\xc2\x0c\x01x")
    return directory / "model"


def values_that_are_nested_without_end(directory: Path) -> Path:
    path = _calling(scaled("double", 2.0)).write(directory / "model")
    inner = b""
    for _ in range(3000):  # tuple_value { values { … } }, as no message class can hold it
        values = b"\x0a" + _varint(len(inner)) + inner
        inner = b"\x9a\x03" + _varint(len(values)) + values
    concrete = b"\x1a" + _varint(len(inner)) + inner
    entry = b"\x0a\x01f\x12" + _varint(len(concrete)) + concrete
    objects = b"\x12" + _varint(len(entry)) + entry
    meta_graph = b"\x3a" + _varint(len(objects)) + objects
    data = (path / "saved_model.pb").read_bytes()
    (path / "saved_model.pb").write_bytes(data + b"\x12" + _varint(len(meta_graph)) + meta_graph)
    return path


def _varint(number: int) -> bytes:
    result = b""
    while number >= 0x80:
        result += bytes([number & 0x7F | 0x80])
        number >>= 7
    return result + bytes([number])


def loss_with_an_argument(directory: Path) -> Path:
    model = _good()
    loss = model.objects.add_function(
        [model.trace(scaled("loss", 0.5), [spec()])], tf_pb.FunctionSpec()
    )
    model.list_of("regularization_losses", [loss])
    return model.write(directory / "model")


def loss_that_is_a_variable(directory: Path) -> Path:
    model = _good()
    model.list_of("regularization_losses", [1])
    return model.write(directory / "model")


def function_that_calls_itself(directory: Path) -> Path:
    made = function("forever", [call("y", "forever", "x")], {"y": "y:output:0"})
    return _calling(made).write(directory / "model")


def functions_that_call_each_other(directory: Path) -> Path:
    first = function("first", [call("y", "second", "x")], {"y": "y:output:0"})
    second = function("second", [call("y", "first", "x")], {"y": "y:output:0"})
    return _calling(first, second).write(directory / "model")


def branch_that_is_its_own(directory: Path) -> Path:
    made = function("forever", [_if("y", "forever", "forever", "x")], {"y": "y:output:0"})
    return _calling(made).write(directory / "model")


def _if(name: str, then: str, otherwise: str, *inputs: str) -> tf_pb.NodeDef:
    """A conditional of a float predicate."""
    node = op(name, "If", inputs[0], *inputs, Tcond=FLOAT)
    node.attr["then_branch"].func.name = then
    node.attr["else_branch"].func.name = otherwise
    node.attr["Tin"].list.type.extend([FLOAT] * len(inputs))
    node.attr["Tout"].list.type.append(FLOAT)
    return node


def a_billion_laughs(directory: Path) -> Path:
    """Each function calls the one before it ten times."""
    functions = [scaled("f0", 2.0)]
    for level in range(1, 10):
        nodes = [call("c0", f"f{level - 1}", "x")]
        nodes += [call(f"c{i}", f"f{level - 1}", f"c{i - 1}:output:0") for i in range(1, 10)]
        functions.append(function(f"f{level}", nodes, {"y": "c9:output:0"}))
    return _calling(functions[-1], *functions[:-1]).write(directory / "model")


def laughs_in_a_branch(directory: Path) -> Path:
    """The same, in the branch of a conditional, which stays a function."""
    functions = [scaled("f0", 2.0)]
    for level in range(1, 20):
        nodes = [call("a", f"f{level - 1}", "x"), call("b", f"f{level - 1}", "a:output:0")]
        functions.append(function(f"f{level}", nodes, {"y": "b:output:0"}))
    made = function("main", [_if("y", "f19", "f0", "x")], {"y": "y:output:0"})
    return _calling(made, *functions).write(directory / "model")


def laughs_of_one_large_constant(directory: Path) -> Path:
    """A constant of a megabyte in a function that is called ten thousand times."""
    large = constant("factor", 2.0)
    large.attr["value"].tensor.tensor_shape.dim.add(size=1 << 18)
    large.attr["value"].tensor.tensor_content = bytes(1 << 20)
    product = op("y", "Mul", "x", "factor:output:0", T=FLOAT)
    made = function("scale", [large, product], {"y": "y:z:0"})
    nodes = [call("c0", "scale", "x")]
    nodes += [call(f"c{i}", "scale", f"c{i - 1}:output:0") for i in range(1, 10000)]
    many = function("many", nodes, {"y": "c9999:output:0"})
    return _calling(many, made).write(directory / "model")


def laughs_of_long_names(directory: Path) -> Path:
    """Functions nested so deep that the names of nodes, one in the other, take all memory."""
    name = "n" * 1000
    functions = [scaled("f0", 2.0)]
    for level in range(1, 4000):
        nodes = [call(name, f"f{level - 1}", "x")]
        functions.append(function(f"f{level}", nodes, {"y": f"{name}:output:0"}))
    return _calling(functions[-1], *functions[:-1]).write(directory / "model")


def laughs_of_control_edges(directory: Path) -> Path:
    """A call that leaves thousands of nodes to wait for, and thousands that wait for it."""
    inner = scaled("inner", 2.0)
    for i in range(3000):
        node = inner.node_def.add(name=f"n{i}", op="NoOp")
        inner.signature.control_output.append(node.name)
        inner.control_ret[node.name] = node.name
    nodes = [call("c", "inner", "x", kind="StatefulPartitionedCall")]
    nodes += [op(f"w{i}", "Identity", "c:output:0", "^c", T=FLOAT) for i in range(3000)]
    nodes.append(op("y", "Identity", "w0:output:0", *(f"^w{i}" for i in range(3000)), T=FLOAT))
    made = function("outer", nodes, {"y": "y:output:0"})
    return _calling(made, inner).write(directory / "model")


def input_that_is_absent(directory: Path) -> Path:
    made = scaled("double", 2.0)
    made.node_def[1].input[1] = "absent:output:0"
    return _calling(made).write(directory / "model")


def input_of_another_dtype(directory: Path) -> Path:
    made = scaled("double", 2.0)
    made.node_def[0].attr["dtype"].type = tf_pb.DT_INT32
    return _calling(made).write(directory / "model")


def node_of_too_few_inputs(directory: Path) -> Path:
    made = scaled("double", 2.0)
    del made.node_def[1].input[1:]
    return _calling(made).write(directory / "model")


def node_without_its_attribute(directory: Path) -> Path:
    made = scaled("double", 2.0)
    made.node_def[1].attr.clear()
    return _calling(made).write(directory / "model")


def nodes_in_a_circle(directory: Path) -> Path:
    nodes = [op("a", "Mul", "x", "b:z:0", T=FLOAT), op("b", "Mul", "x", "a:z:0", T=FLOAT)]
    return _calling(function("round", nodes, {"y": "a:z:0"})).write(directory / "model")


def nodes_in_a_circle_in_a_branch(directory: Path) -> Path:
    nodes = [op("a", "Mul", "x", "b:z:0", T=FLOAT), op("b", "Mul", "x", "a:z:0", T=FLOAT)]
    made = function("main", [_if("y", "round", "round", "x")], {"y": "y:output:0"})
    other = function("round", nodes, {"y": "a:z:0"})
    return _calling(made, other).write(directory / "model")


def two_nodes_of_one_name(directory: Path) -> Path:
    made = scaled("double", 2.0)
    made.node_def.add().CopyFrom(made.node_def[0])
    return _calling(made).write(directory / "model")


def result_that_is_absent(directory: Path) -> Path:
    made = scaled("double", 2.0)
    made.ret["y"] = "absent:z:0"
    return _calling(made).write(directory / "model")


def call_of_too_few_inputs(directory: Path) -> Path:
    made = function("main", [call("y", "double")], {"y": "y:output:0"})
    return _calling(made, scaled("double", 2.0)).write(directory / "model")


def call_of_no_function(directory: Path) -> Path:
    made = function("main", [call("y", "double", "x")], {"y": "y:output:0"})
    made.node_def[0].attr.pop("f")
    return _calling(made, scaled("double", 2.0)).write(directory / "model")


def branch_of_no_function(directory: Path) -> Path:
    double = scaled("double", 2.0)
    made = function("main", [_if("y", "double", "double", "x")], {"y": "y:output:0"})
    made.node_def[0].attr["else_branch"].type = FLOAT
    return _calling(made, double).write(directory / "model")


def branch_of_other_arguments(directory: Path) -> Path:
    none = function("none", [constant("y", 1.0)], {"y": "y:output:0"}, args={})
    made = function("main", [_if("y", "none", "none", "x")], {"y": "y:output:0"})
    return _calling(made, none).write(directory / "model")


def branch_of_other_results(directory: Path) -> Path:
    nodes = [op("y", "Cast", "x", SrcT=FLOAT, DstT=tf_pb.DT_INT32)]
    other = function("other", nodes, {"y": "y:y:0"}, types={"y": tf_pb.DT_INT32})
    made = function("main", [_if("y", "other", "other", "x")], {"y": "y:output:0"})
    return _calling(made, other).write(directory / "model")


def result_that_its_node_is_not(directory: Path) -> Path:
    nodes = [op("y", "Cast", "x", SrcT=FLOAT, DstT=tf_pb.DT_INT32)]
    return _calling(function("lie", nodes, {"y": "y:y:0"})).write(directory / "model")


def conditionals_that_branch_without_end(directory: Path) -> Path:
    """Both branches of each have another one in both branches."""
    functions = [scaled("f0", 2.0)]
    for level in range(1, 40):
        nodes = [_if("y", f"f{level - 1}", f"f{level - 1}", "x")]
        functions.append(function(f"f{level}", nodes, {"y": "y:output:0"}))
    return _calling(functions[-1], *functions[:-1]).write(directory / "model")


def conditionals_nested_without_end(directory: Path) -> Path:
    """Only one branch of each has another one."""
    functions = [scaled("f0", 2.0)]
    for level in range(1, 900):
        nodes = [_if("y", f"f{level - 1}", "f0", "x")]
        functions.append(function(f"f{level}", nodes, {"y": "y:output:0"}))
    return _calling(functions[-1], *functions[:-1]).write(directory / "model")


# -- ops -------------------------------------------------------------------------------------------


def unknown_op(directory: Path) -> Path:
    made = function("main", [op("y", "MyOwnOp", "x")], {"y": "y:out:0"})
    return _calling(made).write(directory / "model")


def op_that_is_newer(directory: Path) -> Path:
    made = function("main", [op("y", "Ndtri", "x", T=FLOAT)], {"y": "y:y:0"})
    return _calling(made).write(directory / "model")


def runs_python(directory: Path) -> Path:
    node = tf_pb.NodeDef(name="y", op="EagerPyFunc", input=["x"])
    node.attr["token"].s = b"pyfunc_0"
    node.attr["Tin"].list.type.append(FLOAT)
    node.attr["Tout"].list.type.append(FLOAT)
    made = function("main", [node], {"y": "y:output:0"})
    return _calling(made).write(directory / "model")


def reads_a_file(directory: Path) -> Path:
    name = tf_pb.NodeDef(name="name", op="Const")
    name.attr["dtype"].type = tf_pb.DT_STRING
    name.attr["value"].tensor.CopyFrom(
        tf_pb.TensorProto(dtype=tf_pb.DT_STRING, string_val=[b"/etc/passwd"])
    )
    read = op("y", "ReadFile", "name:output:0")
    made = function("main", [name, read], {"y": "y:contents:0"}, types={"y": tf_pb.DT_STRING})
    model = Handmade()
    output = spec("y", tf_pb.DT_STRING, ())
    model.method("__call__", [model.trace(made, [spec()], output=output)])
    return model.write(directory / "model")


def adds_to_a_queue(directory: Path) -> Path:
    node = op("queue", "FIFOQueueV2")
    node.attr["component_types"].list.type.append(FLOAT)
    put = op("put", "QueueEnqueueV2", "queue:handle:0", "x")
    put.attr["Tcomponents"].list.type.append(FLOAT)
    result = op("y", "Identity", "x", "^put", T=FLOAT)
    made = function("main", [node, put, result], {"y": "y:output:0"})
    return _calling(made).write(directory / "model")


# -- assets, constants and tables ------------------------------------------------------------------


def _lookup(made: list[tf_pb.NodeDef], captured: int, model: Handmade) -> None:
    """Gives the root a table, which functions make and fill; `captured` is what fills it."""
    create = function("create", made, {"table": f"{made[-1].name}:table_handle:0"}, args={},
                      types={"table": tf_pb.DT_RESOURCE})  # fmt: skip
    handle = spec("table", tf_pb.DT_RESOURCE, ())
    args = {"table": tf_pb.DT_RESOURCE, "file": tf_pb.DT_STRING}
    fill_node = op("fill", "InitializeTableFromTextFileV2", "table", "file")
    fill_node.attr["vocab_size"].i = -1
    for key, value in (("key_index", -2), ("value_index", -1)):
        fill_node.attr[key].i = value
    one = constant("one", 1.0)
    fill = function("fill", [fill_node, one], {"one": "one:output:0"}, args)
    fill.signature.control_output.append("fill")
    fill.control_ret["fill"] = "fill"
    table = model.objects.add_resource()
    model.objects.link(ROOT, "table", table)
    model.method("_create_resource", [model.trace(create, output=handle)], [], parent=table)
    scalar = spec("one", FLOAT, ())
    filling = model.trace(fill, output=scalar, captures=[table, captured])
    model.method("_initialize", [filling], [], parent=table)
    size = op("size", "LookupTableSizeV2", "table")
    result = op("y", "Cast", "size:size:0", SrcT=tf_pb.DT_INT64, DstT=FLOAT)
    made_main = function("main", [size, result], {"y": "y:y:0"},
                         {"x": FLOAT, "table": tf_pb.DT_RESOURCE})  # fmt: skip
    output = spec("y", FLOAT, ())
    model.method("__call__", [model.trace(made_main, [spec()], output=output, captures=[table])])


def _static_table() -> tf_pb.NodeDef:
    return op("t", "HashTableV2", key_dtype=tf_pb.DT_STRING, value_dtype=tf_pb.DT_INT64)


def _with_table(directory: Path, filename: str = "words.txt") -> Path:
    model = Handmade()
    _lookup([_static_table()], model.asset("words.txt", b"a\nb\n"), model)
    model.meta_graph.asset_file_def[0].filename = filename
    return model.write(directory / "model")


def asset_that_is_absent(directory: Path) -> Path:
    path = _with_table(directory)
    (path / "assets" / "words.txt").unlink()
    return path


def asset_that_is_a_link(directory: Path) -> Path:
    path = _with_table(directory)
    (path / "assets" / "words.txt").unlink()
    (path / "assets" / "words.txt").symlink_to("/etc/passwd")
    return path


def asset_outside_by_dots(directory: Path) -> Path:
    return _with_table(directory, "../../../etc/passwd")


def asset_outside_by_root(directory: Path) -> Path:
    return _with_table(directory, "/etc/passwd")


def asset_of_no_number(directory: Path) -> Path:
    path = _with_table(directory)
    with saved_model(path) as message:
        del message.meta_graphs[0].asset_file_def[:]
    return path


def constant_that_is_absent(directory: Path) -> Path:
    model = Handmade()
    model.objects.nodes.append(tf_pb.SavedObject(constant=tf_pb.SavedConstant(operation="absent")))
    read = op("y", "Mul", "x", "c", T=FLOAT)
    made = function("main", [read], {"y": "y:z:0"}, {"x": FLOAT, "c": FLOAT})
    model.method("__call__", [model.trace(made, [spec()], captures=[1])])
    return model.write(directory / "model")


def table_that_is_mutable(directory: Path) -> Path:
    model = Handmade()
    table = op("t", "MutableHashTableV2", key_dtype=tf_pb.DT_STRING, value_dtype=tf_pb.DT_INT64)
    _lookup([table], model.asset("words.txt", b"a\n"), model)
    return model.write(directory / "model")


def table_that_nothing_makes(directory: Path) -> Path:
    path = _with_table(directory)
    with saved_model(path) as message:
        for node in message.meta_graphs[0].object_graph_def.nodes:
            for child in node.children:
                if child.local_name == "_create_resource":
                    child.local_name = "_other"
    return path


def table_that_a_variable_fills(directory: Path) -> Path:
    model = Handmade()
    _lookup([_static_table()], model.variable("words", attribute="words"), model)
    return model.write(directory / "model")


def table_that_itself_makes(directory: Path) -> Path:
    path = _with_table(directory)
    with saved_model(path) as message:
        objects = message.meta_graphs[0].object_graph_def
        objects.concrete_functions["create"].bound_inputs.append(2)
        for made in message.meta_graphs[0].graph_def.library.function:
            if made.signature.name == "create":
                made.signature.input_arg.add(name="own", type=tf_pb.DT_RESOURCE)
    return path


# -- the record of a module ------------------------------------------------------------------------


@contextmanager
def _record(directory: Path, module: str = "text_vocab") -> Any:
    """Gives the record of a variant to change."""
    path = directory / "model"
    bridge.to_saved_model(MODULES / module, path)
    with saved_model(path) as message:
        values = message.meta_graphs[0].collection_def[RECORD].bytes_list.value
        record = record_pb.VariantRecord.FromString(base64.b64decode(values[0]))
        yield record
        values[0] = base64.b64encode(record.SerializeToString())


@contextmanager
def _record_values(directory: Path) -> Any:
    """Gives the records to change, as they are stored."""
    path = directory / "model"
    bridge.to_saved_model(MODULES / "text_vocab", path)
    with saved_model(path) as message:
        yield message.meta_graphs[0].collection_def[RECORD].bytes_list.value


def record_that_is_no_base64(directory: Path) -> Path:
    with _record_values(directory) as values:
        values[0] = b"\xff\xfe not base64"
    return directory / "model"


def record_that_is_no_message(directory: Path) -> Path:
    with _record_values(directory) as values:
        values[0] = base64.b64encode(b"\xff" * 30)
    return directory / "model"


def record_of_nothing(directory: Path) -> Path:
    with _record_values(directory) as values:
        del values[:]
    return directory / "model"


def record_of_one_variant_twice(directory: Path) -> Path:
    with _record_values(directory) as values:
        values.append(values[0])
    return directory / "model"


def record_of_a_newer_version(directory: Path) -> Path:
    with _record(directory) as record:
        record.version = 2
    return directory / "model"


def record_of_an_absent_function(directory: Path) -> Path:
    with _record(directory) as record:
        record.bodies[0].function = "absent"
    return directory / "model"


def record_of_other_arguments(directory: Path) -> Path:
    with _record(directory) as record:
        record.bodies[0].arguments.append("more")
    return directory / "model"


def record_of_a_body_without_its_arguments(directory: Path) -> Path:
    with _record(directory) as record:
        record.bodies[0].arguments[0] = "absent:0"
    return directory / "model"


def record_whose_nodes_contradict(directory: Path) -> Path:
    path = directory / "model"
    with _record(directory, "toy_image_ref") as record:
        held = record.bodies[0].function
        other = next(body for body in record.bodies if body.function != held)
        name = other.function
    with saved_model(path) as message:
        library = message.meta_graphs[0].graph_def.library.function
        bodies = {made.signature.name: made for made in library}
        shared = {n.name for n in bodies[held].node_def} & {n.name for n in bodies[name].node_def}
        node = next(n for n in bodies[name].node_def if n.name in shared and n.op == "Const")
        node.attr["value"].tensor.tensor_content = bytes(1000)
    return path


def record_without_a_variable(directory: Path) -> Path:
    path = directory / "model"
    with _record(directory):
        pass
    with saved_model(path) as message:
        for node in message.meta_graphs[0].object_graph_def.nodes:
            if node.HasField("variable"):
                node.variable.name = "another"
    return path


def record_of_a_variable_of_another_shape(directory: Path) -> Path:
    with _record(directory) as record:
        for node in record.meta_graph.graph_def.node:
            if node.op == "VarHandleOp":
                node.attr["shape"].shape.dim[0].size += 1
    return directory / "model"


def record_without_a_checkpoint(directory: Path) -> Path:
    with _record(directory):
        pass
    shutil.rmtree(directory / "model" / "variables")
    return directory / "model"


def record_without_its_asset(directory: Path) -> Path:
    with _record(directory):
        pass
    shutil.rmtree(directory / "model" / "assets")
    return directory / "model"


def record_whose_asset_is_outside(directory: Path) -> Path:
    with _record(directory) as record:
        assets = record.meta_graph.collection_def["saved_model_assets"].any_list.value
        asset = tf_pb.AssetFileDef.FromString(assets[0].value)
        asset.filename = "../../etc/passwd"
        assets[0].value = asset.SerializeToString()
    return directory / "model"


def record_of_a_collection_that_no_module_has(directory: Path) -> Path:
    with _record(directory) as record:
        record.meta_graph.collection_def["my_own"].node_list.value.append("x")
    return directory / "model"


MALFORMED, UNSUPPORTED, UNSAFE, WRONG = (
    MalformedError,
    UnsupportedError,
    UnsafeError,
    WrongKindError,
)

ATTACKS: tuple[Attack, ...] = (
    Attack(tf1_hub_module, WRONG, ("TF1 Hub module", "to-saved-model")),
    Attack(tf1_saved_model, WRONG, ("TF1 SavedModel", "create_module_spec_from_saved_model")),
    Attack(keras_file, WRONG, ("Keras", "load_model", "model.export(DIR)")),
    Attack(keras_h5_file, WRONG, ("Keras", "load_model", "model.export(DIR)")),
    Attack(keras_weights_file, WRONG, ("Keras",)),
    Attack(directory_with_a_keras_file, WRONG, ("saved_model.pb", "model.export(DIR)")),
    Attack(empty_directory, WRONG, ("saved_model.pb", "model.export(DIR)")),
    Attack(absent, SourceNotFoundError, ("No such file",)),
    Attack(saved_model_of_no_bytes, WRONG, ("no objects",)),
    Attack(saved_model_that_is_text, WRONG, ("saved_model.pb",)),
    Attack(saved_model_that_is_html, MALFORMED, ("no protobuf", "saved_model.pb")),
    Attack(saved_model_that_is_cut, MALFORMED, ("truncated", "saved_model.pb")),
    Attack(saved_model_that_is_a_directory, WRONG, ("saved_model.pb",)),
    Attack(saved_model_that_is_a_link, UNSAFE, ("link", "saved_model.pb")),
    Attack(two_models_in_one, UNSUPPORTED, ("2 models",)),
    Attack(pipe_inside, UNSAFE, ("special file", "pipe")),
    Attack(checkpoint_that_is_absent, MALFORMED, ("no checkpoint",)),
    Attack(index_of_no_bytes, MALFORMED, ("variables.index",)),
    Attack(index_that_is_cut, MALFORMED, ("variables.index",)),
    Attack(shard_that_is_absent, MALFORMED, ("missing", "variables.data-00000-of-00001")),
    Attack(shard_of_no_bytes, MALFORMED, ("outside",)),
    Attack(shard_whose_variable_is_garbled, MALFORMED, ("checksum", "weights")),
    Attack(shard_whose_objects_are_garbled, MALFORMED, (OBJECT_GRAPH_KEY, "broken")),
    Attack(checkpoint_without_objects, MALFORMED, (OBJECT_GRAPH_KEY,)),
    Attack(checkpoint_whose_objects_are_no_message, MALFORMED, ("object graph", "broken")),
    Attack(checkpoint_whose_objects_have_negative_numbers, MALFORMED, ("'weights'", "no value")),
    Attack(checkpoint_without_the_variable, MALFORMED, ("'weights'", "no value")),
    Attack(no_objects, MALFORMED, ("object graph is empty",)),
    Attack(child_that_is_absent, MALFORMED, ("number 99",)),
    Attack(child_of_a_negative_number, MALFORMED, ("number -1",)),
    Attack(capture_that_is_absent, MALFORMED, ("'multiply'", "object 1000")),
    Attack(capture_of_a_negative_number, MALFORMED, ("'multiply'", "object -2")),
    Attack(capture_of_the_root, UNSUPPORTED, ("'multiply'", "user_object", "tf.Variable")),
    Attack(capture_of_a_function, UNSUPPORTED, ("'multiply'", "'__call__'", "a function")),
    Attack(captures_that_no_argument_takes, MALFORMED, ("'multiply'",)),
    Attack(variable_that_nothing_leads_to, MALFORMED, ("'weights'", "no value")),
    Attack(variable_of_no_fixed_shape, UNSUPPORTED, ("'weights'", "[?]", "fixed shape")),
    Attack(variable_of_another_shape, MALFORMED, ("float32[3]", "float32[2]")),
    Attack(variable_of_another_dtype, MALFORMED, ("int32[2]", "float32[2]")),
    Attack(variable_of_an_unknown_dtype, MALFORMED, ("'weights'",)),
    Attack(nothing_to_call, UNSUPPORTED, ("__call__", "signatures=")),
    Attack(only_called_in_training, UNSUPPORTED, ("traced for inference", "call it once")),
    Attack(call_of_an_absent_function, MALFORMED, ("no function 'absent'",)),
    Attack(function_that_nothing_describes, MALFORMED, ("no function 'multiply'",)),
    Attack(function_that_the_library_lacks, MALFORMED, ("no function 'multiply'",)),
    Attack(two_functions_of_one_name, MALFORMED, ("two functions", "'multiply'")),
    Attack(arguments_that_are_no_pair, MALFORMED, ("'double'", "no pair")),
    Attack(description_of_too_many_arguments, MALFORMED, ("'double'", "more tensors")),
    Attack(description_of_too_few_arguments, MALFORMED, ("'double'", "1 tensors")),
    Attack(description_of_another_dtype, MALFORMED, ("'double'", "another dtype")),
    Attack(result_of_an_unknown_class, UNSUPPORTED, ("'double'", "my.Own")),
    Attack(ragged_result_of_a_negative_rank, MALFORMED, ("'double'",)),
    Attack(sparse_result_of_one_tensor, MALFORMED, ("'double'",)),
    Attack(value_of_an_unknown_kind, UNSUPPORTED, ("'double'", "not known")),
    Attack(values_that_are_nested_without_end, MALFORMED, ("no protobuf",)),
    Attack(loss_with_an_argument, UNSUPPORTED, ("'regularization_losses/0'",)),
    Attack(loss_that_is_a_variable, UNSUPPORTED, ("regularization loss",)),
    Attack(function_that_calls_itself, MALFORMED, ("'forever'", "calls itself")),
    Attack(functions_that_call_each_other, MALFORMED, ("calls itself",)),
    Attack(branch_that_is_its_own, MALFORMED, ("'forever'", "calls itself")),
    Attack(a_billion_laughs, MALFORMED, ("500000 nodes",)),
    Attack(laughs_in_a_branch, MALFORMED, ("500000 nodes",)),
    Attack(laughs_of_one_large_constant, MALFORMED, ("4294967296 bytes",)),
    Attack(laughs_of_long_names, MALFORMED, ("4294967296 bytes",)),
    Attack(laughs_of_control_edges, MALFORMED, ("control edges",)),
    Attack(input_that_is_absent, MALFORMED, ("'absent:output:0'", "'double'")),
    Attack(input_of_another_dtype, MALFORMED, ("int32", "float32", "Mul")),
    Attack(node_of_too_few_inputs, MALFORMED, ("Mul takes 2 inputs",)),
    Attack(node_without_its_attribute, MALFORMED, ("'T'",)),
    Attack(nodes_in_a_circle, MALFORMED, ("cycle",)),
    Attack(nodes_in_a_circle_in_a_branch, MALFORMED, ("cycle",)),
    Attack(two_nodes_of_one_name, MALFORMED, ("'factor'", "two nodes")),
    Attack(result_that_is_absent, MALFORMED, ("'absent:z:0'",)),
    Attack(call_of_too_few_inputs, MALFORMED, ("'double'", "1 arguments")),
    Attack(call_of_no_function, MALFORMED, ("'f'",)),
    Attack(branch_of_no_function, MALFORMED, ("'else_branch'",)),
    Attack(branch_of_other_arguments, MALFORMED, ("'none'", "'then_branch'")),
    Attack(branch_of_other_results, MALFORMED, ("'other'", "'then_branch'")),
    Attack(result_that_its_node_is_not, MALFORMED, ("int32", "float32", "'default'")),
    Attack(conditionals_that_branch_without_end, MALFORMED, ("500000 nodes",)),
    Attack(conditionals_nested_without_end, UNSUPPORTED, ("899 deep", "switch_case")),
    Attack(unknown_op, UNSUPPORTED, ("'MyOwnOp'",)),
    Attack(op_that_is_newer, UNSUPPORTED, ("Ndtri", "1.15")),
    Attack(runs_python, UNSAFE, ("EagerPyFunc", "--allow-op EagerPyFunc")),
    Attack(reads_a_file, UNSAFE, ("ReadFile",)),
    Attack(adds_to_a_queue, UNSUPPORTED, ("FIFOQueueV2",)),
    Attack(asset_that_is_absent, MALFORMED, ("assets/words.txt", "missing")),
    Attack(asset_that_is_a_link, UNSAFE, ("link", "words.txt")),
    Attack(asset_outside_by_dots, UNSAFE, ("'../../../etc/passwd'", "leaves")),
    Attack(asset_outside_by_root, UNSAFE, ("'/etc/passwd'", "leaves")),
    Attack(asset_of_no_number, MALFORMED, ("asset 0",)),
    Attack(constant_that_is_absent, MALFORMED, ("'absent'",)),
    Attack(table_that_is_mutable, UNSUPPORTED, ("MutableHashTableV2", "StaticHashTable")),
    Attack(table_that_nothing_makes, MALFORMED, ("'table'", "_create_resource")),
    Attack(table_that_a_variable_fills, UNSUPPORTED, ("'words'", "variable")),
    Attack(table_that_itself_makes, MALFORMED, ("takes 1 inputs",)),
    Attack(record_that_is_no_base64, MALFORMED, (RECORD, "broken")),
    Attack(record_that_is_no_message, MALFORMED, (RECORD, "broken")),
    Attack(record_of_nothing, MALFORMED, (RECORD, "no variant")),
    Attack(record_of_one_variant_twice, MALFORMED, (RECORD, "two variants")),
    Attack(record_of_a_newer_version, UNSUPPORTED, ("version 2", "latest")),
    Attack(record_of_an_absent_function, MALFORMED, ("no function 'absent'",)),
    Attack(record_of_other_arguments, MALFORMED, ("arguments",)),
    Attack(record_of_a_body_without_its_arguments, MALFORMED, ("absent",)),
    Attack(record_whose_nodes_contradict, MALFORMED, ("another node",)),
    Attack(record_without_a_variable, MALFORMED, ("no value",)),
    Attack(record_of_a_variable_of_another_shape, MALFORMED, ("another one",)),
    Attack(record_without_a_checkpoint, MALFORMED, ("no value",)),
    Attack(record_without_its_asset, MALFORMED, ("missing",)),
    Attack(record_whose_asset_is_outside, UNSAFE, ("leaves",)),
    Attack(record_of_a_collection_that_no_module_has, UNSUPPORTED, ("'my_own'",)),
)
