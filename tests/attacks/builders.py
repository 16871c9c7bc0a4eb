"""Every abuse that was ever tried on a module: a function that does it, and what must be said.

Each builder gets a copy of a real module and changes it; what it returns, if anything, is given as
SOURCE in its place.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import (
    HubBridgeError,
    MalformedError,
    UnsafeError,
    UnsupportedError,
    WrongKindError,
)
from bridge.proto import tf_pb
from tests.attacks.edit import (
    checkpoint_entry,
    graph_def,
    insert_after,
    meta_graph,
    module_def,
    node,
    saved_model,
)

Build = Callable[[Path], Path | None]

LOOKUP = "hash_table_Lookup/hash_table_Lookup/LookupTableFindV2"
INITIALIZER = "string_to_index/hash_table/table_init/InitializeTableFromTextFileV2"
ASSET_PATH = "string_to_index/hash_table/asset_path"
EMBEDDING = "Text/embedding"
OUTPUT = "Text_1/embedding_lookup_sparse"


@dataclass(frozen=True)
class Attack:
    """An abuse.

    Attributes:
      build: makes it out of a copy of the module.
      error: the class of the error it must end with.
      words: what the error must say.
      module: the module it starts from.
    """

    build: Build
    error: type[HubBridgeError]
    words: tuple[str, ...]
    module: str = "text_vocab"

    @property
    def name(self) -> str:
        return self.build.__name__


# -- the directory ----------------------------------------------------------------------------


def empty_directory(module: Path) -> Path:
    empty = module.parent / "empty"
    empty.mkdir()
    return empty


def file_that_is_no_archive(module: Path) -> Path:
    return module / "saved_model.pb"


def empty_file(module: Path) -> Path:
    path = module.parent / "empty.tar.gz"
    path.touch()
    return path


def named_pipe(module: Path) -> Path:
    path = module.parent / "pipe"
    os.mkfifo(path)
    return path


def tf1_saved_model(module: Path) -> None:
    (module / "tfhub_module.pb").unlink()


def tf2_saved_model(module: Path) -> None:
    (module / "tfhub_module.pb").unlink()
    with meta_graph(module) as graph:
        graph.object_graph_def.nodes.add().user_object.identifier = "_generic_user_object"


def saved_model_that_is_absent(module: Path) -> None:
    (module / "saved_model.pb").unlink()


def saved_model_that_is_a_directory(module: Path) -> None:
    (module / "saved_model.pb").unlink()
    (module / "saved_model.pb").mkdir()


def saved_model_that_is_empty(module: Path) -> None:
    (module / "saved_model.pb").write_bytes(b"")


def saved_model_that_is_html(module: Path) -> None:
    (module / "saved_model.pb").write_text("<!DOCTYPE html><html><body>404</body></html>")


def link_to_a_file(module: Path) -> None:
    asset = module / "assets" / "vocabulary.txt"
    asset.unlink()
    asset.symlink_to("/etc/passwd")


def link_to_a_directory(module: Path) -> None:
    (module / "assets.extra").symlink_to("/etc")


def pipe_inside(module: Path) -> None:
    os.mkfifo(module / "assets" / "pipe")


def asset_that_is_absent(module: Path) -> None:
    (module / "assets" / "vocabulary.txt").unlink()


def asset_outside_by_dots(module: Path) -> None:
    _rename_asset(module, "../../../../etc/passwd")


def asset_outside_by_root(module: Path) -> None:
    _rename_asset(module, "/etc/passwd")


def asset_outside_by_backslash(module: Path) -> None:
    _rename_asset(module, "..\\..\\secret")


def _rename_asset(module: Path, filename: str) -> None:
    with meta_graph(module) as graph:
        packed = graph.collection_def["saved_model_assets"].any_list.value[0]
        asset = tf_pb.AssetFileDef.FromString(packed.value)
        asset.filename = filename
        packed.value = asset.SerializeToString()


# -- the module's own messages -------------------------------------------------------------------


def unknown_format(module: Path) -> None:
    with module_def(module) as definition:
        definition.format = 7


def unset_format(module: Path) -> None:
    (module / "tfhub_module.pb").write_bytes(b"")


def required_feature(module: Path) -> None:
    with module_def(module) as definition:
        definition.required_features.append("time-travel")


def module_def_that_is_garbled(module: Path) -> None:
    (module / "tfhub_module.pb").write_bytes(b"\xff" * 7)


def no_graph(module: Path) -> None:
    with saved_model(module) as message:
        del message.meta_graphs[:]


def two_graphs_of_the_same_tags(module: Path) -> None:
    with saved_model(module) as message:
        message.meta_graphs.append(message.meta_graphs[0])


def unsupported_collection(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["queue_runners"].bytes_list.value.append(b"")


def variables_as_a_list_of_nodes(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["variables"].node_list.value.append(EMBEDDING)


def broken_variable_def(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["variables"].bytes_list.value[0] = b"\xff\xff"


def variable_def_of_no_node(module: Path) -> None:
    with meta_graph(module) as graph:
        value = tf_pb.VariableDef(variable_name="nowhere:0").SerializeToString()
        graph.collection_def["variables"].bytes_list.value.append(value)


def variable_def_of_another_op(module: Path) -> None:
    with meta_graph(module) as graph:
        value = tf_pb.VariableDef(variable_name="text:0").SerializeToString()
        graph.collection_def["variables"].bytes_list.value.append(value)


def trainable_variable_that_is_none(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["variables"].bytes_list.value.pop()


def asset_without_a_file(module: Path) -> None:
    with meta_graph(module) as graph:
        del graph.collection_def["saved_model_assets"]


def broken_asset_def(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["saved_model_assets"].any_list.value[0].value = b"\xff\xff"


def loss_that_is_no_tensor(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["regularization_losses"].node_list.value.append(f"^{OUTPUT}")


def loss_of_an_absent_output(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["regularization_losses"].node_list.value.append(f"{OUTPUT}:5")


def broken_attachment(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["hub_module_attachments"].bytes_list.value.append(b"\xff\xff")


def update_op_of_no_node(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.collection_def["update_ops"].node_list.value.append("nowhere")


# -- signatures -----------------------------------------------------------------------------------


def signature_of_an_absent_tensor(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.signature_def["default"].outputs["default"].name = "nowhere:0"


def signature_of_an_absent_output(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.signature_def["default"].outputs["default"].name = f"{OUTPUT}:3"


def signature_of_a_control_edge(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.signature_def["default"].outputs["default"].name = f"^{OUTPUT}"


def signature_of_another_dtype(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.signature_def["default"].outputs["default"].dtype = tf_pb.DT_INT64


def signature_of_no_tensor(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.signature_def["default"].inputs["text"].ClearField("name")


def signature_of_a_variable(module: Path) -> None:
    with meta_graph(module) as graph:
        info = graph.signature_def["default"].inputs["variable"]
        info.name, info.dtype = f"{EMBEDDING}:0", tf_pb.DT_FLOAT


def signature_of_a_table(module: Path) -> None:
    with meta_graph(module) as graph:
        info = graph.signature_def["default"].inputs["table"]
        info.name, info.dtype = "string_to_index/hash_table/hash_table:0", tf_pb.DT_RESOURCE


def _composite(graph: tf_pb.MetaGraphDef) -> tf_pb.TensorInfo.CompositeTensor:
    inputs = graph.signature_def["default"].inputs
    key = next(key for key in sorted(inputs) if inputs[key].HasField("composite_tensor"))
    return inputs[key].composite_tensor


def composite_of_no_type(module: Path) -> None:
    with meta_graph(module) as graph:
        _composite(graph).ClearField("type_spec")


def composite_of_other_components(module: Path) -> None:
    with meta_graph(module) as graph:
        _composite(graph).type_spec.num_flat_components = 7


def composite_of_a_deep_type(module: Path) -> None:
    with meta_graph(module) as graph:
        state = _composite(graph).type_spec.type_state
        for _ in range(20):
            state = state.tuple_value.values.add()
        state.int64_value = 1


def empty_tag(module: Path) -> None:
    with meta_graph(module) as graph:
        graph.meta_info_def.tags.append("")


def placeholder_that_nobody_feeds(module: Path) -> None:
    with meta_graph(module) as graph:
        new = tf_pb.NodeDef(name="more", op="AddV2", input=[OUTPUT, "unfed"])
        new.attr["T"].type = tf_pb.DT_FLOAT
        placeholder = graph.graph_def.node.add(name="unfed", op="Placeholder")
        placeholder.attr["dtype"].type = tf_pb.DT_FLOAT
        graph.graph_def.node.append(new)
        graph.signature_def["default"].outputs["default"].name = "more:0"


# -- the graph ------------------------------------------------------------------------------------


def name_with_a_space(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(name="a b", op="NoOp")


def name_of_a_control_edge(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(name=f"^{OUTPUT}", op="NoOp")


def endless_outputs(module: Path) -> None:
    with graph_def(module) as graph:
        split = graph.node.add(name="split", op="Split", input=["zero", OUTPUT])
        split.attr["num_split"].i = 1 << 62
        split.attr["T"].type = tf_pb.DT_FLOAT
        zero = graph.node.add(name="zero", op="Const")
        zero.attr["dtype"].type = tf_pb.DT_INT32


def many_outputs(module: Path) -> None:
    with graph_def(module) as graph:
        zero = graph.node.add(name="zero", op="Const")
        zero.attr["dtype"].type = tf_pb.DT_INT32
        for number in range(100):
            split = graph.node.add(name=f"split_{number}", op="Split", input=["zero", OUTPUT])
            split.attr["num_split"].i = 1 << 16
            split.attr["T"].type = tf_pb.DT_FLOAT


def index_of_many_digits(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input[0] = f"{LOOKUP}:" + "1" * 5000


def dangling_input(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input[0] = "nowhere"


def input_of_an_absent_output(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input[0] = f"{LOOKUP}:9"


def input_that_is_no_tensor_name(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input[0] = f"{LOOKUP}:one"


def input_of_another_dtype(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input[0] = "SparseFillEmptyRows/SparseFillEmptyRows"


def value_in_place_of_a_reference(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, f"{EMBEDDING}/Assign").input[0] = f"{EMBEDDING}/Initializer/random_uniform"


def too_few_inputs(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, LOOKUP).input.pop()


def too_many_inputs(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, LOOKUP).input.append("StringSplit/Const")


def no_inputs(module: Path) -> None:
    with graph_def(module) as graph:
        for one in graph.node:
            del one.input[:]


def data_after_control(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input.insert(0, "^text")


def duplicate_node(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.append(node(graph, LOOKUP))


def node_without_a_name(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(op="NoOp")


def cycle(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, "StaticRegexReplace").input.append(f"^{OUTPUT}")


def cycle_of_one(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).input.append(f"^{OUTPUT}")


def recursive_function(module: Path) -> None:
    with graph_def(module) as graph:
        for name, other in (("ping", "pong"), ("pong", "ping")):
            function = graph.library.function.add()
            function.signature.name = name
            function.node_def.add(name="call", op=other)


def duplicate_function(module: Path) -> None:
    with graph_def(module) as graph:
        for _ in range(2):
            graph.library.function.add().signature.name = "twice"


def absent_attribute(module: Path) -> None:
    with graph_def(module) as graph:
        del node(graph, "Text_1/embedding_lookup_sparse/Cast").attr["DstT"]


def unknown_attribute(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).attr["colour"].s = b"red"


def unknown_op(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, OUTPUT).op = "MyOwnSparseSegmentMean"


def unknown_op_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = graph.library.function.add()
        function.signature.name = "hidden"
        function.node_def.add(name="inner", op="MyOwnOp")
        insert_after(graph, "StaticRegexReplace", _call("hidden", "StaticRegexReplace"))
        function.signature.input_arg.add(name="x", type=tf_pb.DT_STRING)
        function.signature.output_arg.add(name="y", type=tf_pb.DT_STRING)
        function.ret["y"] = "x"


def _call(function: str, argument: str) -> tf_pb.NodeDef:
    call = tf_pb.NodeDef(name=f"call_{function}", op="PartitionedCall", input=[argument])
    call.attr["Tin"].list.type.append(tf_pb.DT_STRING)
    call.attr["Tout"].list.type.append(tf_pb.DT_STRING)
    call.attr["f"].func.name = function
    return call


# -- functions ------------------------------------------------------------------------------------


def _function(graph: tf_pb.GraphDef, name: str = "hidden") -> tf_pb.FunctionDef:
    """Adds a function of a string that returns it, and a call of it before the lookup."""
    function = graph.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="x", type=tf_pb.DT_STRING)
    function.signature.output_arg.add(name="y", type=tf_pb.DT_STRING)
    same = function.node_def.add(name="same", op="Identity", input=["x"])
    same.attr["T"].type = tf_pb.DT_STRING
    function.ret["y"] = "same:output:0"
    insert_after(graph, "StaticRegexReplace", _call(name, "StaticRegexReplace"))
    return function


def function_named_like_an_op(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph, "StringStrip")


def call_of_an_absent_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph)
        node(graph, "call_hidden").attr["f"].func.name = "nowhere"


def call_of_an_absent_function_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def.append(_call("nowhere", "same:output:0"))


def function_given_to_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph)
        node(graph, "call_hidden").attr["f"].func.attr["g"].func.name = "hidden"


def gradient_of_an_absent_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph)
        graph.library.gradient.add(function_name="hidden", gradient_func="nowhere")


def dangling_input_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def[0].input[0] = "nowhere"


def dangling_control_input_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def[0].input.append("^nowhere")


def input_of_an_absent_output_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = _function(graph)
        function.node_def.add(name="more", op="StringStrip", input=["same:colour:0"])


def input_past_the_outputs_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = _function(graph)
        function.node_def.add(name="more", op="StringStrip", input=["same:output:1"])


def input_of_a_graph_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def.add(name="more", op="StringStrip", input=["same"])


def data_after_control_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def[0].input.insert(0, "^x")


def duplicate_node_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = _function(graph)
        function.node_def.append(function.node_def[0])


def node_named_like_an_argument(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def.add(name="x", op="NoOp")


def duplicate_argument(module: Path) -> None:
    with graph_def(module) as graph:
        function = _function(graph)
        function.signature.input_arg.append(function.signature.input_arg[0])


def node_without_a_name_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).node_def.add(op="NoOp")


def function_that_returns_nothing(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).ret.clear()


def function_that_returns_what_is_not_there(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).ret["y"] = "nowhere:output:0"


def function_that_must_run_what_is_not_there(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).control_ret["done"] = "nowhere"


def function_whose_control_output_is_no_node(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).signature.control_output.append("done")


def index_of_many_digits_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        _function(graph).ret["y"] = "same:output:" + "0" * 5000


def table_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        table = _function(graph).node_def.add(name="table", op="MutableHashTableV2")
        table.attr["key_dtype"].type = tf_pb.DT_STRING
        table.attr["value_dtype"].type = tf_pb.DT_INT64


def variable_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        variable = _function(graph).node_def.add(name="variable", op="VarHandleOp")
        variable.attr["dtype"].type = tf_pb.DT_FLOAT
        variable.attr["shape"].shape.dim.add(size=2)


def table_from_any_file_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = _function(graph)
        table = function.node_def.add(name="table", op="HashTableV2")
        table.attr["key_dtype"].type = tf_pb.DT_STRING
        table.attr["value_dtype"].type = tf_pb.DT_INT64
        inputs = ["table:table_handle:0", "x"]
        fill = function.node_def.add(name="fill", op="InitializeTableFromTextFileV2", input=inputs)
        fill.attr["key_index"].i, fill.attr["value_index"].i = -2, -1


# -- what reaches outside of the model -----------------------------------------------------------


def runs_python(module: Path) -> None:
    with graph_def(module) as graph:
        new = tf_pb.NodeDef(name="evil", op="PyFunc", input=["StaticRegexReplace"])
        new.attr["token"].s = b"pyfunc_0"
        new.attr["Tin"].list.type.append(tf_pb.DT_STRING)
        new.attr["Tout"].list.type.append(tf_pb.DT_STRING)
        insert_after(graph, "StaticRegexReplace", new)


def reads_a_file(module: Path) -> None:
    with graph_def(module) as graph:
        new = tf_pb.NodeDef(name="evil", op="ReadFile", input=["StaticRegexReplace"])
        insert_after(graph, "StaticRegexReplace", new)


def writes_a_file(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(name="evil", op="WriteFile", input=["StaticRegexReplace"] * 2)
        node(graph, OUTPUT).input.append("^evil")


def reads_a_file_in_a_function(module: Path) -> None:
    with graph_def(module) as graph:
        function = graph.library.function.add()
        function.signature.name = "hidden"
        function.signature.input_arg.add(name="x", type=tf_pb.DT_STRING)
        function.signature.output_arg.add(name="y", type=tf_pb.DT_STRING)
        function.node_def.add(name="evil", op="ReadFile", input=["x"])
        function.ret["y"] = "evil:contents:0"
        insert_after(graph, "StaticRegexReplace", _call("hidden", "StaticRegexReplace"))


def prints_to_a_file(module: Path) -> None:
    with graph_def(module) as graph:
        new = graph.node.add(name="evil", op="PrintV2", input=["StaticRegexReplace"])
        new.attr["output_stream"].s = b"file:///tmp/escaped"
        node(graph, OUTPUT).input.append("^evil")


def prints_to_a_file_that_a_caller_names(module: Path) -> None:
    with graph_def(module) as graph:
        new = _function(graph).node_def.add(name="evil", op="PrintV2", input=["x"])
        new.attr["output_stream"].placeholder = "stream"


def decodes_by_a_file(module: Path) -> None:
    with graph_def(module) as graph:
        new = graph.node.add(name="evil", op="DecodeProtoV2", input=["StaticRegexReplace"])
        new.attr["descriptor_source"].s = b"/etc/passwd"
        new.attr["message_type"].s = b"a.B"
        new.attr["field_names"].list.SetInParent()
        new.attr["output_types"].list.SetInParent()
        node(graph, OUTPUT).input.append("^evil")


def runs_a_graph_of_text(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(name="evil", op="DatasetFromGraph", input=["StaticRegexReplace"])
        node(graph, OUTPUT).input.append("^evil")


def ends_the_process(module: Path) -> None:
    with graph_def(module) as graph:
        graph.node.add(name="evil", op="Abort")
        node(graph, OUTPUT).input.append("^evil")


def talks_to_a_server(module: Path) -> None:
    with graph_def(module) as graph:
        new = graph.node.add(name="evil", op="RpcClient")
        new.input.extend(["StaticRegexReplace", "timeout"])
        timeout = graph.node.add(name="timeout", op="Const")
        timeout.attr["dtype"].type = tf_pb.DT_INT64
        timeout.attr["value"].tensor.dtype = tf_pb.DT_INT64
        new.attr["shared_name"].s = b""
        node(graph, OUTPUT).input.append("^evil")


def runs_an_op_of_the_runtime(module: Path) -> None:
    with graph_def(module) as graph:
        new = graph.node.add(name="evil", op="_HostCast", input=["StaticRegexReplace"])
        new.attr["SrcT"].type = new.attr["DstT"].type = tf_pb.DT_STRING
        node(graph, OUTPUT).input.append("^evil")


def table_from_any_file(module: Path) -> None:
    with graph_def(module) as graph:
        path = graph.node.add(name="path", op="Const")
        path.attr["dtype"].type = tf_pb.DT_STRING
        path.attr["value"].tensor.dtype = tf_pb.DT_STRING
        path.attr["value"].tensor.string_val.append(b"/etc/passwd")
        node(graph, INITIALIZER).input[1] = "path"


def table_from_the_input(module: Path) -> None:
    with graph_def(module) as graph:
        node(graph, INITIALIZER).input[1] = "text"


def table_that_nothing_fills(module: Path) -> None:
    with meta_graph(module) as graph:
        del graph.collection_def["table_initializer"]


def table_initializer_without_inputs(module: Path) -> None:
    with graph_def(module) as graph:
        del node(graph, INITIALIZER).input[:]


# -- the checkpoint -------------------------------------------------------------------------------


def index_that_is_absent(module: Path) -> None:
    (module / "variables" / "variables.index").unlink()


def index_that_is_cut(module: Path) -> None:
    path = module / "variables" / "variables.index"
    path.write_bytes(path.read_bytes()[:-20])


def index_that_is_empty(module: Path) -> None:
    (module / "variables" / "variables.index").write_bytes(b"")


def shard_that_is_absent(module: Path) -> None:
    (module / "variables" / "variables.data-00000-of-00001").unlink()


def shard_that_is_cut(module: Path) -> None:
    path = module / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])


def shard_that_is_garbled(module: Path) -> None:
    path = module / "variables" / "variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)


def shard_that_is_a_link(module: Path) -> None:
    path = module / "variables" / "variables.data-00000-of-00001"
    path.rename(module.parent / "elsewhere")
    path.symlink_to(module.parent / "elsewhere")


def variable_that_is_not_stored(module: Path) -> None:
    with meta_graph(module) as graph:
        for one in graph.graph_def.node:
            one.name = one.name.replace(EMBEDDING, "Text/other")
            for position, name in enumerate(one.input):
                one.input[position] = name.replace(EMBEDDING, "Text/other")
        for key in ("variables", "trainable_variables"):
            values = graph.collection_def[key].bytes_list.value
            definition = tf_pb.VariableDef.FromString(values[0])
            definition.variable_name = "Text/other:0"
            values[0] = definition.SerializeToString()


def variable_stored_in_another_shape(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        first, second = entry.shape.dim[0].size, entry.shape.dim[1].size
        entry.shape.dim[0].size, entry.shape.dim[1].size = second, first


def variable_stored_as_another_dtype(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        entry.dtype = tf_pb.DT_INT32


def variable_stored_outside_of_the_shard(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        entry.offset = 1 << 40


def variable_stored_before_the_shard(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        entry.offset = -8


def variable_stored_in_no_shard(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        entry.shard_id = 3


def variable_of_too_many_bytes(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        entry.size -= 4


def variable_of_a_huge_shape(module: Path) -> None:
    with checkpoint_entry(module, EMBEDDING) as entry:
        for dim in entry.shape.dim:
            dim.size = 1 << 62


def resource_variable_of_another_shape(module: Path) -> None:
    with saved_model(module) as message:
        for graph in message.meta_graphs:
            for one in graph.graph_def.node:
                if one.op == "VarHandleOp":
                    del one.attr["shape"].shape.dim[:]


def variable_outside_of_its_collection(module: Path) -> None:
    with meta_graph(module) as graph:
        for key in ("variables", "trainable_variables"):
            del graph.collection_def[key]


# -- archives -------------------------------------------------------------------------------------


def _tar(module: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Packs the module, and after it the members."""
    path = module.parent / "module.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(module, ".")
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def _zip(module: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    path = module.parent / "module.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(path for path in module.rglob("*") if path.is_file()):
            archive.write(file, file.relative_to(module))
        for info, data in members:
            archive.writestr(info, data)
    return path


def tar_with_dots(module: Path) -> Path:
    return _tar(module, (_member("../escaped"), b"x"))


def tar_with_hidden_dots(module: Path) -> Path:
    return _tar(module, (_member("assets/../../escaped"), b"x"))


def tar_with_an_absolute_name(module: Path) -> Path:
    return _tar(module, (_member(f"{module.parent}/escaped"), b"x"))


def tar_with_a_symbolic_link(module: Path) -> Path:
    return _tar(module, (_member("assets/link", tarfile.SYMTYPE, "/etc/passwd"), b""))


def tar_that_writes_through_a_link(module: Path) -> Path:
    return _tar(
        module,
        (_member("out", tarfile.SYMTYPE, str(module.parent)), b""),
        (_member("out/escaped"), b"x"),
    )


def tar_with_a_hard_link(module: Path) -> Path:
    return _tar(module, (_member("assets/link", tarfile.LNKTYPE, "/etc/passwd"), b""))


def tar_with_a_device(module: Path) -> Path:
    return _tar(module, (_member("assets/null", tarfile.CHRTYPE), b""))


def tar_with_a_pipe(module: Path) -> Path:
    return _tar(module, (_member("assets/pipe", tarfile.FIFOTYPE), b""))


def tar_with_a_name_twice(module: Path) -> Path:
    return _tar(module, (_member("saved_model.pb"), b"other"))


def tar_with_a_file_as_directory(module: Path) -> Path:
    return _tar(module, (_member("saved_model.pb/x"), b"other"))


def tar_that_is_cut(module: Path) -> Path:
    path = _tar(module)
    path.write_bytes(path.read_bytes()[:-900])
    return path


def tar_that_is_garbled(module: Path) -> Path:
    path = _tar(module)
    data = bytearray(path.read_bytes())
    data[300:320] = bytes(20)
    path.write_bytes(data)
    return path


def tar_without_an_end(module: Path) -> Path:
    path = _tar(module)
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data.rstrip(b"\0")[:-1024]))
    return path


def tar_of_another_checksum(module: Path) -> Path:
    path = _tar(module)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    return path


def tar_with_a_name_of_many_bytes(module: Path) -> Path:
    return _tar(module, (_member("long", tarfile.GNUTYPE_LONGNAME), bytes(20 << 20)))


def tar_of_another_thing(module: Path) -> Path:
    path = module.parent / "other.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(module / "assets", "assets")
    return path


def zip_with_dots(module: Path) -> Path:
    return _zip(module, ("../escaped", b"x"))


def zip_with_an_absolute_name(module: Path) -> Path:
    return _zip(module, (f"{module.parent}/escaped", b"x"))


def zip_with_backslashes(module: Path) -> Path:
    return _zip(module, ("..\\escaped", b"x"))


def zip_with_a_drive(module: Path) -> Path:
    return _zip(module, ("C:escaped", b"x"))


def zip_with_a_symbolic_link(module: Path) -> Path:
    info = zipfile.ZipInfo("assets/link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return _zip(module, (info, b"/etc/passwd"))


def zip_with_a_name_twice(module: Path) -> Path:
    info = zipfile.ZipInfo("./saved_model.pb")
    return _zip(module, (info, b"other"))


def zip_that_is_encrypted(module: Path) -> Path:
    path = _zip(module)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1  # the flag in the central directory …
    data[6] |= 1  # … and in the first local header
    path.write_bytes(data)
    return path


def zip_that_is_cut(module: Path) -> Path:
    path = _zip(module)
    path.write_bytes(path.read_bytes()[:-10])
    return path


def zip_that_is_garbled(module: Path) -> Path:
    path = _zip(module)
    data = bytearray(path.read_bytes())
    position = data.index(b"cat\n")
    data[position] ^= 1
    path.write_bytes(data)
    return path


def zip_of_an_unknown_compression(module: Path) -> Path:
    path = _zip(module)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 10] = data[8] = 99
    path.write_bytes(data)
    return path


MALFORMED, UNSAFE, UNSUPPORTED = MalformedError, UnsafeError, UnsupportedError

ATTACKS = (
    Attack(empty_directory, WrongKindError, ("no TF1 Hub module", "tfhub_module.pb")),
    Attack(file_that_is_no_archive, WrongKindError, ("no archive",)),
    Attack(empty_file, WrongKindError, ("no archive",)),
    Attack(named_pipe, WrongKindError, ("neither a directory nor a file",)),
    Attack(tf1_saved_model, WrongKindError, ("a TF1 SavedModel", "tfhub_module.pb")),
    Attack(tf2_saved_model, WrongKindError, ("a TF2 SavedModel",)),
    Attack(saved_model_that_is_absent, MALFORMED, ("missing", "saved_model.pb")),
    Attack(saved_model_that_is_a_directory, MALFORMED, ("saved_model.pb",)),
    Attack(saved_model_that_is_empty, MALFORMED, ("no graph", "saved_model.pb")),
    Attack(saved_model_that_is_html, MALFORMED, ("truncated or no protobuf", "saved_model.pb")),
    Attack(link_to_a_file, UNSAFE, ("link", "vocabulary.txt")),
    Attack(link_to_a_directory, UNSAFE, ("link", "assets.extra")),
    Attack(pipe_inside, UNSAFE, ("special file", "pipe")),
    Attack(asset_that_is_absent, MALFORMED, ("assets/vocabulary.txt", "missing", ASSET_PATH)),
    Attack(asset_outside_by_dots, UNSAFE, ("'../../../../etc/passwd'", "leaves assets/")),
    Attack(asset_outside_by_root, UNSAFE, ("'/etc/passwd'", "leaves assets/")),
    Attack(asset_outside_by_backslash, UNSAFE, ("leaves assets/",)),
    Attack(unknown_format, UNSUPPORTED, ("format 7", "tfhub_module.pb")),
    Attack(unset_format, UNSUPPORTED, ("format 0", "tfhub_module.pb")),
    Attack(required_feature, UNSUPPORTED, ("'time-travel'",)),
    Attack(module_def_that_is_garbled, MALFORMED, ("tfhub_module.pb",)),
    Attack(no_graph, MALFORMED, ("no graph",)),
    Attack(two_graphs_of_the_same_tags, MALFORMED, ("two graphs have the tags {}",)),
    Attack(unsupported_collection, UNSUPPORTED, ("'queue_runners'", "variant {}")),
    Attack(variables_as_a_list_of_nodes, MALFORMED, ("'variables'", "no list of messages")),
    Attack(broken_variable_def, MALFORMED, ("'variables'", "broken VariableDef")),
    Attack(variable_def_of_no_node, MALFORMED, ("no such node", "'nowhere'")),
    Attack(variable_def_of_another_op, MALFORMED, ("Placeholder", "'text'")),
    Attack(trainable_variable_that_is_none, MALFORMED, ("trainable", EMBEDDING)),
    Attack(asset_without_a_file, MALFORMED, ("asset_filepaths", ASSET_PATH)),
    Attack(broken_asset_def, MALFORMED, ("AssetFileDef",)),
    Attack(loss_that_is_no_tensor, MALFORMED, ("control edge", OUTPUT)),
    Attack(loss_of_an_absent_output, MALFORMED, ("output 5", OUTPUT)),
    Attack(broken_attachment, MALFORMED, ("ModuleAttachment",)),
    Attack(update_op_of_no_node, MALFORMED, ("no such node", "'nowhere'")),
    Attack(signature_of_an_absent_tensor, MALFORMED, ("no such node", "'nowhere'")),
    Attack(signature_of_an_absent_output, MALFORMED, ("output 3", OUTPUT)),
    Attack(signature_of_a_control_edge, MALFORMED, ("'default'",)),
    Attack(signature_of_another_dtype, MALFORMED, ("'default'", "int64", "float32")),
    Attack(signature_of_no_tensor, MALFORMED, ("'text'", "names no tensor")),
    Attack(signature_of_a_variable, MALFORMED, ("VariableV2", EMBEDDING)),
    Attack(signature_of_a_table, MALFORMED, ("HashTableV2", "'default'")),
    Attack(composite_of_no_type, MALFORMED, ("no type",), "ragged_input"),
    Attack(composite_of_other_components, MALFORMED, ("7 components",), "ragged_input"),
    Attack(composite_of_a_deep_type, MALFORMED, ("nested deeper",), "ragged_input"),
    Attack(empty_tag, MALFORMED, ("tags is empty",)),
    Attack(placeholder_that_nobody_feeds, MALFORMED, ("'unfed'",)),
    Attack(dangling_input, MALFORMED, ("'nowhere'", OUTPUT)),
    Attack(input_of_an_absent_output, MALFORMED, ("output 9", LOOKUP)),
    Attack(input_that_is_no_tensor_name, MALFORMED, (":one'",)),
    Attack(input_of_another_dtype, MALFORMED, ("int64", "float32", OUTPUT)),
    Attack(value_in_place_of_a_reference, MALFORMED, ("a reference to float32", "Assign")),
    Attack(too_few_inputs, MALFORMED, (LOOKUP,)),
    Attack(too_many_inputs, MALFORMED, (LOOKUP,)),
    Attack(no_inputs, MALFORMED, ()),
    Attack(data_after_control, MALFORMED, ("after a control input", OUTPUT)),
    Attack(duplicate_node, MALFORMED, ("same name", LOOKUP)),
    Attack(node_without_a_name, MALFORMED, ("no name for a node",)),
    Attack(name_with_a_space, MALFORMED, ("'a b'",)),
    Attack(name_of_a_control_edge, MALFORMED, (f"'^{OUTPUT}'",)),
    Attack(endless_outputs, MALFORMED, ("'num_split'", "'split'")),
    Attack(many_outputs, MALFORMED, ("more than 1048576 outputs",)),
    Attack(index_of_many_digits, MALFORMED, ("not a tensor name",)),
    Attack(cycle, MALFORMED, ("cycle",)),
    Attack(cycle_of_one, MALFORMED, ("cycle", OUTPUT)),
    Attack(recursive_function, MALFORMED, ("calls itself",)),
    Attack(duplicate_function, MALFORMED, ("two functions are named 'twice'",)),
    Attack(function_named_like_an_op, MALFORMED, ("'StringStrip'", "name of an op")),
    Attack(call_of_an_absent_function, MALFORMED, ("'nowhere'", "'call_hidden'")),
    Attack(call_of_an_absent_function_in_a_function, MALFORMED, ("'nowhere'", "'call_nowhere'")),
    Attack(function_given_to_a_function, UNSUPPORTED, ("'hidden'", "'call_hidden'")),
    Attack(gradient_of_an_absent_function, MALFORMED, ("gradient", "'nowhere'")),
    Attack(dangling_input_in_a_function, MALFORMED, ("'hidden'", "'nowhere'", "'same'")),
    Attack(dangling_control_input_in_a_function, MALFORMED, ("'^nowhere'", "'same'")),
    Attack(input_of_an_absent_output_in_a_function, MALFORMED, ("'same:colour:0'", "'more'")),
    Attack(input_past_the_outputs_in_a_function, MALFORMED, ("'same:output:1'", "'more'")),
    Attack(input_of_a_graph_in_a_function, MALFORMED, ("'same'", "'more'")),
    Attack(data_after_control_in_a_function, MALFORMED, ("after a control input", "'same'")),
    Attack(duplicate_node_in_a_function, MALFORMED, ("'hidden'", "'same'")),
    Attack(node_named_like_an_argument, MALFORMED, ("'hidden'", "'x'")),
    Attack(duplicate_argument, MALFORMED, ("two arguments", "'x'")),
    Attack(node_without_a_name_in_a_function, MALFORMED, ("'hidden'", "no name for a node")),
    Attack(function_that_returns_nothing, MALFORMED, ("'hidden'", "declares")),
    Attack(function_that_returns_what_is_not_there, MALFORMED, ("'nowhere:output:0'",)),
    Attack(function_that_must_run_what_is_not_there, MALFORMED, ("'nowhere'",)),
    Attack(function_whose_control_output_is_no_node, MALFORMED, ("'done'",)),
    Attack(index_of_many_digits_in_a_function, MALFORMED, ("'hidden'", "not there")),
    Attack(table_in_a_function, UNSUPPORTED, ("'hidden'", "MutableHashTableV2")),
    Attack(variable_in_a_function, UNSUPPORTED, ("'hidden'", "VarHandleOp")),
    Attack(table_from_any_file_in_a_function, UNSAFE, ("'hidden'", "file", "'fill'")),
    Attack(absent_attribute, MALFORMED, ("'DstT'", "absent", "Cast")),
    Attack(unknown_attribute, UNSUPPORTED, ("'colour'", OUTPUT)),
    Attack(unknown_op, UNSUPPORTED, ("'MyOwnSparseSegmentMean'", OUTPUT)),
    Attack(unknown_op_in_a_function, UNSUPPORTED, ("'MyOwnOp'",)),
    Attack(runs_python, UNSAFE, ("PyFunc", "'evil'")),
    Attack(reads_a_file, UNSAFE, ("ReadFile", "'evil'")),
    Attack(writes_a_file, UNSAFE, ("WriteFile", "'evil'")),
    Attack(reads_a_file_in_a_function, UNSAFE, ("ReadFile",)),
    Attack(prints_to_a_file, UNSAFE, ("PrintV2", "file:///tmp/escaped")),
    Attack(prints_to_a_file_that_a_caller_names, UNSAFE, ("PrintV2",)),
    Attack(decodes_by_a_file, UNSAFE, ("DecodeProtoV2", "/etc/passwd")),
    Attack(runs_a_graph_of_text, UNSAFE, ("DatasetFromGraph", "can't be checked")),
    Attack(ends_the_process, UNSAFE, ("Abort", "ends the process")),
    Attack(talks_to_a_server, UNSAFE, ("RpcClient", "other machines")),
    Attack(runs_an_op_of_the_runtime, UNSAFE, ("_HostCast", "internal")),
    Attack(table_from_any_file, UNSAFE, ("'path'", "no asset", INITIALIZER)),
    Attack(table_from_the_input, UNSAFE, ("'text'", "no asset", INITIALIZER)),
    Attack(table_that_nothing_fills, UNSUPPORTED, ("table_initializer",)),
    Attack(table_initializer_without_inputs, MALFORMED, (INITIALIZER,)),
    Attack(index_that_is_absent, MALFORMED, ("missing", "variables.index")),
    Attack(index_that_is_cut, MALFORMED, ("variables.index",)),
    Attack(index_that_is_empty, MALFORMED, ("variables.index",)),
    Attack(shard_that_is_absent, MALFORMED, ("missing", "variables.data-00000-of-00001")),
    Attack(shard_that_is_cut, MALFORMED, ("outside", EMBEDDING)),
    Attack(shard_that_is_garbled, MALFORMED, ("checksum", EMBEDDING)),
    Attack(shard_that_is_a_link, UNSAFE, ("link", "variables.data-00000-of-00001")),
    Attack(variable_that_is_not_stored, MALFORMED, ("'Text/other'", "checkpoint")),
    Attack(variable_stored_in_another_shape, MALFORMED, ("checkpoint holds", EMBEDDING)),
    Attack(variable_stored_as_another_dtype, MALFORMED, ("float32", "int32", EMBEDDING)),
    Attack(variable_stored_outside_of_the_shard, MALFORMED, ("outside", EMBEDDING)),
    Attack(variable_stored_before_the_shard, MALFORMED, ("outside", EMBEDDING)),
    Attack(variable_stored_in_no_shard, MALFORMED, ("shard 3", EMBEDDING)),
    Attack(variable_of_too_many_bytes, MALFORMED, ("bytes", EMBEDDING)),
    Attack(variable_of_a_huge_shape, MALFORMED, ("too large", EMBEDDING)),
    Attack(
        resource_variable_of_another_shape, MALFORMED, ("checkpoint holds",), "toy_image_resource"
    ),
    Attack(variable_outside_of_its_collection, MALFORMED, ("`variables`", EMBEDDING)),
    Attack(tar_with_dots, UNSAFE, ("'../escaped'", "outside")),
    Attack(tar_with_hidden_dots, UNSAFE, ("outside",)),
    Attack(tar_with_an_absolute_name, UNSAFE, ("outside",)),
    Attack(tar_with_a_symbolic_link, UNSAFE, ("'assets/link'", "link")),
    Attack(tar_that_writes_through_a_link, UNSAFE, ("'out'", "link")),
    Attack(tar_with_a_hard_link, UNSAFE, ("'assets/link'", "link")),
    Attack(tar_with_a_device, UNSAFE, ("'assets/null'", "special file")),
    Attack(tar_with_a_pipe, UNSAFE, ("'assets/pipe'", "special file")),
    Attack(tar_with_a_name_twice, MALFORMED, ("'saved_model.pb'", "twice")),
    Attack(tar_with_a_file_as_directory, MALFORMED, ("twice",)),
    Attack(tar_that_is_cut, MALFORMED, ("archive is broken",)),
    Attack(tar_that_is_garbled, MALFORMED, ("archive is broken",)),
    Attack(tar_without_an_end, MALFORMED, ("archive is broken",)),
    Attack(tar_of_another_checksum, MALFORMED, ("archive is broken",)),
    Attack(tar_with_a_name_of_many_bytes, MALFORMED, ("archive is broken", "header")),
    Attack(tar_of_another_thing, WrongKindError, ("no TF1 Hub module",)),
    Attack(zip_with_dots, UNSAFE, ("'../escaped'", "outside")),
    Attack(zip_with_an_absolute_name, UNSAFE, ("outside",)),
    Attack(zip_with_backslashes, UNSAFE, ("outside",)),
    Attack(zip_with_a_drive, UNSAFE, ("'C:escaped'", "outside")),
    Attack(zip_with_a_symbolic_link, UNSAFE, ("'assets/link'", "link")),
    Attack(zip_with_a_name_twice, MALFORMED, ("twice",)),
    Attack(zip_that_is_encrypted, MALFORMED, ("encrypted",)),
    Attack(zip_that_is_cut, WrongKindError, ("no archive",)),
    Attack(zip_that_is_garbled, MALFORMED, ("archive is broken",)),
    Attack(zip_of_an_unknown_compression, MALFORMED, ("archive is broken",)),
)
