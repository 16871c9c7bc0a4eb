"""Variables, assets and tables as objects of the SavedModel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bridge.assets import asset_digest
from bridge.attrs import variable_handle_data
from bridge.errors import UnsupportedError
from bridge.model import Component, Encoding, Endpoint, Model, Variant, shape_to_proto
from bridge.ops import RESOURCE_TABLE, RESOURCE_VARIABLE
from bridge.proto import tf_pb
from bridge.report import Report
from bridge.saved_model.bodies import (
    Body,
    Captured,
    VariantState,
    build_body,
    writing_functions,
)
from bridge.saved_model.library import Library, content_of
from bridge.saved_model.objects import ObjectGraph
from bridge.saved_model.structured_value import (
    function_spec,
    mapping,
    none,
    tensor_spec,
    tuple_of,
)

TABLE_FILLERS = frozenset(
    {"InitializeTableV2", "InitializeTableFromTextFileV2", "LookupTableImportV2"}
)
"""Ops that put the initial content into a table, their first input."""


@dataclass(frozen=True)
class Table:
    """A lookup table of the result.

    Attributes:
      captured: how functions refer to it.
      node: its HashTableV2 node, with the name that is unique to this model's content.
      initialize: the function that fills it.
    """

    captured: Captured
    node: tf_pb.NodeDef
    initialize: Body


@dataclass
class State:
    """All state of the SavedModel under construction.

    Attributes:
      objects: the object graph.
      library: the function library.
      concrete: SavedConcreteFunctions by name.
      variables: object number by name.
      assets: object number by file name; the n-th has index n in `asset_file_def`.
      asset_digests: digest by file name, of the assets that tables are filled from.
      tables: by key.
      variants: what the functions of each variant may refer to, by the variant's label.
      bodies: the functions of signatures, and the update ops that each runs, by what they compute.
    """

    objects: ObjectGraph = field(default_factory=ObjectGraph)
    library: Library = field(default_factory=Library)
    concrete: dict[str, tf_pb.SavedConcreteFunction] = field(default_factory=dict)
    variables: dict[str, int] = field(default_factory=dict)
    assets: dict[str, int] = field(default_factory=dict)
    asset_digests: dict[str, bytes] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    variants: dict[str, VariantState] = field(default_factory=dict)
    bodies: dict[tuple[str, ...], tuple[Body, tuple[str, ...]]] = field(default_factory=dict)

    def add_concrete(
        self,
        name: str,
        captures: Iterable[Captured],
        arguments: tf_pb.StructuredValue,
        output: tf_pb.StructuredValue,
    ) -> None:
        """Tells the loader how to call a function of the library."""
        self.concrete[name] = tf_pb.SavedConcreteFunction(
            bound_inputs=[capture.number for capture in captures],
            canonicalized_input_signature=arguments,
            output_signature=output,
        )

    def add_function_without_arguments(
        self, name: str, captures: Iterable[Captured], output: tf_pb.StructuredValue
    ) -> int:
        """Adds an object that calls a function of the library without arguments."""
        self.add_concrete(name, captures, tuple_of([tuple_of([]), mapping({})]), output)
        return self.objects.add_function([name], function_spec([], no_arguments=True))


def build_state(model: Model, report: Report) -> State:
    """Adds every variable, asset and table of the model to a new object graph.

    Raises:
      UnsupportedError: a table is filled in a way that a SavedModel can't repeat.
    """
    state = State()
    for variable in model.variables.values():
        state.variables[variable.name] = state.objects.add_variable(variable)
    for name in _used_assets(model):
        state.assets[name] = state.objects.add_asset(len(state.assets))
    for variant in model.variants.values():
        variant_state = VariantState(
            variant,
            _captured(model, variant, state),
            state.library.add_graph_functions(variant.graph),
            writing_functions(variant.graph),
        )
        state.variants[variant.label] = variant_state
        _add_tables(model, variant_state, state, report)
    return state


def _used_assets(model: Model) -> list[str]:
    return sorted({name for variant in model.variants.values() for name in variant.assets.values()})


def _captured(model: Model, variant: Variant, state: State) -> dict[str, Captured]:
    captured: dict[str, Captured] = {}
    for node in variant.graph.nodes.values():
        if node.op == RESOURCE_VARIABLE:
            variable = model.variables[node.name]
            captured[node.name] = Captured(
                ("variable", node.name),
                state.variables[node.name],
                tf_pb.DT_RESOURCE,
                variable_handle_data(variable.dtype, shape_to_proto(variable.shape)),
            )
        elif node.name in variant.assets:
            name = variant.assets[node.name]
            captured[node.name] = Captured(
                ("asset", name), state.assets[name], tf_pb.DT_STRING, shape=()
            )
    return captured


# -- tables -----------------------------------------------------------------------------------


def _add_tables(model: Model, variant_state: VariantState, state: State, report: Report) -> None:
    variant = variant_state.variant
    graph = variant.graph
    initializers = graph.ancestors(variant.table_initializers)
    fillers: dict[str, list[str]] = {}
    for name in sorted(initializers):
        if graph.nodes[name].op in TABLE_FILLERS:
            table = next(graph.inputs(graph.nodes[name])).node
            fillers.setdefault(table, []).append(name)
    for node in [node for node in graph.nodes.values() if node.op == RESOURCE_TABLE]:
        if node.name not in fillers:
            raise UnsupportedError(
                "the table is used, but no op in the collection `table_initializer` fills it",
                where=graph.at(node.name),
            )
        _add_table(model, variant_state, state, node, fillers[node.name])
    filled = {name for names in fillers.values() for name in names}
    for name in sorted(initializers - filled):
        node = graph.nodes[name]
        is_state = node.op == RESOURCE_TABLE or name in variant_state.captured
        if not is_state and graph.op_def(node).is_stateful:
            report.drop(
                "table_initializer",
                name,
                f"op {node.op} fills no table that can be converted",
                graph.at(name),
            )


def _add_table(
    model: Model,
    variant_state: VariantState,
    state: State,
    node: tf_pb.NodeDef,
    fillers: list[str],
) -> None:
    """Adds a table, or finds the same table of another variant."""
    variant = variant_state.variant
    # What it is filled with decides whether it is a new table: until then, this stands for it.
    number = len(state.objects.nodes)
    provisional = Captured(("table", node.name), number, tf_pb.DT_RESOURCE)
    variant_state.captured[node.name] = provisional
    body = build_body(
        variant_state, state.library, f"initialize_{node.name}", {}, {}, fillers, share=False
    )
    others = [c.key for c in body.captures if c.key[0] != "asset" and c.key != provisional.key]
    if others:
        raise UnsupportedError(
            f"the table is filled from {others[0][0]} {others[0][1]!r}; only constants and assets "
            "can be repeated when a SavedModel is loaded",
            where=variant.graph.at(node.name),
        )
    resource_name = f"{node.name}_{_content_digest(model, state, node, body)}"
    for table in state.tables.values():
        if table.node.attr["shared_name"].s == resource_name.encode():
            variant_state.captured[node.name] = table.captured
            del state.library.functions[body.name]
            return
    key = ("table", node.name if node.name not in state.tables else resource_name)
    captured = Captured(key, state.objects.add_resource(), tf_pb.DT_RESOURCE)
    variant_state.captured[node.name] = captured
    captures = tuple(captured if c.key == provisional.key else c for c in body.captures)
    initialize = _returning_done(replace(body, captures=captures), state.library)
    table_node = tf_pb.NodeDef()
    table_node.CopyFrom(node)
    del table_node.input[:]
    table_node.attr["shared_name"].s = resource_name.encode()
    state.tables[key[1]] = Table(captured, table_node, initialize)
    _add_table_functions(state, captured, table_node, initialize)


def _returning_done(body: Body, library: Library) -> Body:
    """Lets an initializer return a constant, as TensorFlow's own ones do, when it is done."""
    function = library.functions[body.name]
    done = function.node_def.add(name="hubbridge_done", op="Const")
    done.input.extend(f"^{name}" for name in function.signature.control_output)
    done.attr["dtype"].type = tf_pb.DT_INT32
    value = done.attr["value"].tensor
    value.dtype = tf_pb.DT_INT32
    value.tensor_shape.SetInParent()
    value.int_val.append(1)
    function.signature.output_arg.add(name="done", type=tf_pb.DT_INT32)
    function.ret["done"] = "hubbridge_done:output:0"
    component = Component("done", tf_pb.DT_INT32, ())
    return replace(
        body, outputs={"done": Endpoint(Encoding.DENSE, tf_pb.DT_INT32, (), (component,))}
    )


def _content_digest(model: Model, state: State, node: tf_pb.NodeDef, body: Body) -> str:
    """Names a table by what is in it.

    TensorFlow finds a table by name in the whole process: two models must not meet in one name
    unless their tables are equal, and the name must be the same in every conversion.
    """
    digest = hashlib.sha256(node.op.encode())
    for key in sorted(node.attr):
        if key not in ("shared_name", "container"):
            digest.update(key.encode() + node.attr[key].SerializeToString(deterministic=True))
    digest.update(content_of(state.library.functions[body.name]))
    for kind, filename in (capture.key for capture in body.captures):
        if kind == "asset":
            if filename not in state.asset_digests:
                state.asset_digests[filename] = asset_digest(model.assets[filename])
            digest.update(state.asset_digests[filename])
    return digest.hexdigest()[:16]


def _add_table_functions(
    state: State, captured: Captured, node: tf_pb.NodeDef, initialize: Body
) -> None:
    create = tf_pb.FunctionDef()
    create.signature.name = state.library.new_name(f"create_{node.name}")
    create.signature.is_stateful = True
    create.signature.output_arg.add(name="table", type=tf_pb.DT_RESOURCE)
    create.node_def.append(node)
    create.ret["table"] = f"{node.name}:table_handle:0"
    create.signature.control_output.append(node.name)
    create.control_ret[node.name] = node.name
    destroy = tf_pb.FunctionDef()
    destroy.signature.name = state.library.new_name(f"destroy_{node.name}")
    objects = state.objects
    done = tensor_spec("done", tf_pb.DT_INT32, ())
    number = captured.number
    for child, function, captures, output in (
        ("_create_resource", state.library.add(create, share=False), (),
         tensor_spec("table", tf_pb.DT_RESOURCE, ())),
        ("_initialize", initialize.name, initialize.captures, done),
        ("_destroy_resource", state.library.add(destroy, share=False), (), none()),
    ):  # fmt: skip
        objects.link(
            number, child, state.add_function_without_arguments(function, captures, output)
        )
