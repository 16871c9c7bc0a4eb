"""What tf.saved_model.load makes of a SavedModel: callables, variables, tables, losses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bridge._inspect.endpoints import as_list, leaf_of
from bridge._inspect.results import CallableInfo, TableInfo, TraceInfo, VariableInfo
from bridge._inspect.v1_state import estimated_bytes, is_table, table_info, with_entry
from bridge.bundle import BundleIndex
from bridge.dtypes import dtype_name
from bridge.errors import MalformedError, UnsupportedError
from bridge.model import shape_from_proto
from bridge.proto import tf_pb
from bridge.saved_model.choice import Functions
from bridge.saved_model.names import TRAINING
from bridge.saved_model.object_tree import ObjectTree, entries_of_variables
from bridge.saved_model.objects import ROOT
from bridge.saved_model.state_reader import names_of
from bridge.saved_model.traces import Trace, argument_names

_CALL = "__call__"
_LOSSES = "regularization_losses"
_NOT_CALLED = frozenset({"keras_api", "call_and_return_all_conditional_losses", _LOSSES})
"""What nobody calls by its name: Keras' own, and the losses, which are told apart."""


class Objects:
    """Describes the objects of a SavedModel."""

    def __init__(self, meta_graph: tf_pb.MetaGraphDef, path: Path):
        """Indexes the objects.

        Raises:
          MalformedError: an object refers to one that is not there.
        """
        self._meta_graph = meta_graph
        self._tree = ObjectTree(meta_graph.object_graph_def, path)
        self._concrete = dict(meta_graph.object_graph_def.concrete_functions)
        self._library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
        self._functions = Functions(self._tree, self._concrete, self._library)

    # -- callables ----------------------------------------------------------------------------

    def callables(self) -> tuple[list[CallableInfo], int]:
        """Returns what users call, the root first, and how many other functions there are.

        Users call the root's functions, those of its parts, and its signatures.

        Raises:
          MalformedError: a function is not there, or is not what the objects say.
        """
        tree = self._tree
        named = dict(self._named())
        told = {*named.values(), *tree.items(tree.child(ROOT, _LOSSES))}
        others = {
            number
            for parent in range(len(tree.nodes))
            # A function has its traces below it; what makes and fills a table is part of it.
            if tree.kind(parent) not in ("function", "resource")
            for number in tree.children(parent).values()
            if tree.concrete_functions(number)
        } - told
        order = sorted(named, key=lambda name: (name != _CALL, name.count("."), name))
        return [self._callable(name, named[name]) for name in order], len(others)

    def _named(self) -> Iterator[tuple[str, int]]:
        tree = self._tree
        for name, number in tree.children(ROOT).items():
            if tree.concrete_functions(number):
                if _is_called(name):
                    yield name, number
            elif name.isidentifier() and _is_called(name):
                for inner, below in tree.children(number).items():
                    if _is_called(inner) and tree.concrete_functions(below):
                        yield f"{name}.{inner}", below

    def _callable(self, name: str, number: int) -> CallableInfo:
        spec = self._functions.spec(number)
        traces = [self._trace(one, spec) for one in self._tree.concrete_functions(number)]
        return CallableInfo(name, argument_names(spec), traces)

    def _trace(self, name: str, spec: tf_pb.FunctionSpec) -> TraceInfo:
        try:
            trace = self._functions.trace(name, argument_names(spec))
        except UnsupportedError as error:
            captures = len(self._concrete[name].bound_inputs)
            return TraceInfo(name, None, [], {}, [], captures, error.message)
        return TraceInfo(
            function=name,
            training=_training(trace),
            inputs=[leaf_of(leaf) for leaf in trace.inputs],
            values=dict(trace.values),
            outputs=[leaf_of(leaf) for leaf in trace.outputs],
            captures=len(trace.captures),
        )

    # -- state --------------------------------------------------------------------------------

    def variables(self, index: BundleIndex | None) -> list[VariableInfo]:
        """Describes the variables: those that the root lists, else all but its optimizer's.

        What functions read comes to them.

        Raises:
          MalformedError: the checkpoint's objects are broken.
        """
        tree = self._tree
        listed = tree.child(ROOT, "variables")
        members = tree.variables(skipped="optimizer") if listed is None else tree.items(listed)
        used = {n for one in self._concrete.values() for n in one.bound_inputs}
        wanted = sorted(
            n for n in {*members, *used} if n in range(len(tree.nodes)) and self._is_variable(n)
        )
        entries = entries_of_variables(tree, wanted, index) if index and wanted else {}
        names = names_of(tree, wanted, used)
        trained = tree.child(ROOT, "trainable_variables")
        trainable = frozenset(wanted if trained is None else tree.items(trained))
        result = []
        for number in wanted:
            saved = tree.nodes[number].variable
            shape = shape_from_proto(saved.shape)
            variable = VariableInfo(
                name=names[number],
                path=tree.path(number),
                dtype=dtype_name(saved.dtype),
                shape=as_list(shape),
                bytes=estimated_bytes(saved.dtype, shape),
                trainable=saved.trainable and number in trainable,
                kind="resource",
                parts=1,
                stored=False,
            )
            result.append(with_entry(variable, entries.get(number)))
        return result

    def _is_variable(self, number: int) -> bool:
        return self._tree.kind(number) == "variable"

    def tables(self) -> list[TableInfo]:
        """Describes the tables that objects make.

        Raises:
          MalformedError: an object has a function that is not there.
        """
        tree = self._tree
        result = []
        for number in range(len(tree.nodes)):
            if tree.kind(number) != "resource":
                continue
            nodes = (n for body in self._bodies(number, "_create_resource") for n in body.node_def)
            node = next((node for node in nodes if is_table(node.op)), None)
            if node is not None:
                result.append(table_info(node, tree.path(number), None, self._asset(number)))
        return result

    def _bodies(self, number: int, child: str) -> Iterator[tf_pb.FunctionDef]:
        for name in self._tree.concrete_functions(self._tree.child(number, child)):
            if name not in self._library or name not in self._concrete:
                raise MalformedError(f"there is no function {name!r}", where=self._tree.where)
            yield self._library[name]

    def _asset(self, number: int) -> str | None:
        """Returns the file that a table's `_initialize` reads."""
        tree, files = self._tree, self._meta_graph.asset_file_def
        for body in self._bodies(number, "_initialize"):
            for captured in self._concrete[body.signature.name].bound_inputs:
                if captured in range(len(tree.nodes)) and tree.kind(captured) == "asset":
                    position = tree.nodes[captured].asset.asset_file_def_index
                    if 0 <= position < len(files):
                        return files[position].filename
        return None

    def regularization_losses(self) -> list[str]:
        """Returns the names of the functions in the root's list of this name."""
        tree = self._tree
        numbers = tree.items(tree.child(ROOT, _LOSSES))
        return [name for n in numbers for name in tree.concrete_functions(n)[:1]]


def _is_called(name: str) -> bool:
    return name == _CALL or not (name.startswith("_") or name in _NOT_CALLED)


def _training(trace: Trace) -> str | None:
    if any(leaf.is_training for leaf in trace.inputs):
        return "tensor"
    value = trace.values.get(TRAINING)
    return str(value) if TRAINING in trace.values else None
