"""The state that a SavedModel's functions capture: variables, assets, tables and constants."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.assets import asset_digest, check_asset_name, find_assets
from bridge.bundle import BundleIndex, Entry
from bridge.errors import MalformedError, UnsupportedError, Where
from bridge.graph import unique_name
from bridge.inline import node_name
from bridge.layout import ASSETS
from bridge.model import Asset, ByteRange, Tags, Variable
from bridge.ops import RESOURCE_TABLE
from bridge.proto import tf_pb
from bridge.report import Report, VariableReport
from bridge.saved_model.choice import Choice
from bridge.saved_model.object_tree import (
    ObjectTree,
    places_of_variables,
)
from bridge.saved_model.objects import ROOT
from bridge.saved_model.traces import Trace, read_trace

_PASSED_ON = frozenset({"Const", "Identity", "NoOp"})


@dataclass(frozen=True)
class Table:
    """A lookup table.

    Attributes:
      create: the function that makes it, with the name that the module gives the table.
      initialize: the function that fills it.
    """

    create: tf_pb.FunctionDef
    initialize: Trace


@dataclass
class SavedState:
    """What functions refer to, by the number of the object.

    Attributes:
      variables: the variables of the module.
      assets: file names below `assets/`.
      constants: Const nodes.
      tables: lookup tables.
      files: every asset file, by name.
      trainable: names of the trainable variables, in their order.
      model_variables: names of the variables that the source lists as `model_variables`.
    """

    variables: dict[int, Variable] = field(default_factory=dict)
    assets: dict[int, str] = field(default_factory=dict)
    constants: dict[int, tf_pb.NodeDef] = field(default_factory=dict)
    tables: dict[int, Table] = field(default_factory=dict)
    files: dict[str, Asset] = field(default_factory=dict)
    trainable: list[str] = field(default_factory=list)
    model_variables: list[str] = field(default_factory=list)

    def by_name(self) -> dict[str, Variable]:
        """Returns the variables by name, sorted."""
        return {v.name: v for v in sorted(self.variables.values(), key=lambda v: v.name)}


class StateReader:
    """Finds what the functions of a choice capture."""

    def __init__(
        self,
        tree: ObjectTree,
        meta_graph: tf_pb.MetaGraphDef,
        library: Mapping[str, tf_pb.FunctionDef],
        index: BundleIndex | None,
        report: Report,
    ):
        """Takes the parts of the SavedModel; `read` does the work."""
        self._tree = tree
        self._meta_graph = meta_graph
        self._library = library
        self._index = index
        self._report = report
        self._state = SavedState()

    def read(self, choice: Choice, directory: Path) -> SavedState:
        """Reads the state.

        Raises:
          UnsupportedError: a function captures something that no module has.
          MalformedError: a file or a value is missing.
        """
        self._state.files = find_assets(directory)
        used: set[int] = set()
        traces = choice.traces()
        for trace in traces:  # grows while it runs: tables are filled by functions
            for number in trace.captures:
                if number not in used:
                    used.add(number)
                    traces += self._add(number, trace)
        self._add_variables(used, choice.signatures)
        return self._state

    def _add(self, number: int, trace: Trace) -> list[Trace]:
        """Reads one object that a function captures; returns the functions that it needs."""
        self._tree.check_captured(trace.function, number)
        node, kind = self._tree.nodes[number], self._tree.kind(number)
        if kind == "asset":
            self._state.assets[number] = self._asset(node.asset.asset_file_def_index)
        elif kind == "constant":
            self._state.constants[number] = self._constant(node.constant.operation)
        elif kind == "resource":
            table = self._table(number)
            self._state.tables[number] = table
            return [table.initialize]
        elif kind != "variable":
            raise UnsupportedError(
                f"function {trace.function!r} captures {self._tree.path(number)!r}, a {kind}; a "
                "module has variables, tables, assets and constants only",
                where=self._tree.where,
                hint="keep the value in a tf.Variable or a tf.constant and save the model again",
            )
        return []

    # -- assets and constants ------------------------------------------------------------------

    def _asset(self, index: int) -> str:
        files = self._meta_graph.asset_file_def
        if not 0 <= index < len(files):
            raise MalformedError(f"there is no asset {index}", where=self._tree.where)
        name = check_asset_name(files[index].filename, self._tree.where)
        if name not in self._state.files:
            raise MalformedError(
                f"the asset file {ASSETS}/{name} is missing", where=self._tree.where
            )
        return name

    def _constant(self, operation: str) -> tf_pb.NodeDef:
        if not hasattr(self, "_nodes"):
            self._nodes = {node.name: node for node in self._meta_graph.graph_def.node}
        node = self._nodes.get(operation)
        if node is None or node.op != "Const":
            raise MalformedError(
                f"the constant {operation!r} is not in the graph", where=self._tree.where
            )
        return node

    # -- tables --------------------------------------------------------------------------------

    def _table(self, number: int) -> Table:
        create = self._function_of(number, "_create_resource")
        fill = self._function_of(number, "_initialize")
        other = [n.op for n in create.node_def if n.op not in {RESOURCE_TABLE, *_PASSED_ON}]
        made = [n for n in create.node_def if n.op == RESOURCE_TABLE]
        if other or len(made) != 1:
            raise UnsupportedError(
                f"the resource {self._tree.path(number)!r} is made by op {(other or ['NoOp'])[0]}; "
                f"only static lookup tables ({RESOURCE_TABLE}) can be in a module",
                where=self._tree.where,
                hint="use tf.lookup.StaticHashTable and save the model again",
            )
        name = fill.signature.name
        concrete = self._meta_graph.object_graph_def.concrete_functions[name]
        initialize = read_trace(name, concrete, fill, (), self._tree.where)
        named = tf_pb.FunctionDef()
        named.CopyFrom(create)
        digest = self._content_digest(create, fill, initialize)
        for node in named.node_def:
            if node.op == RESOURCE_TABLE:
                node.attr["shared_name"].s = f"{node.name}_{digest}".encode()
        return Table(named, initialize)

    def _function_of(self, number: int, child: str) -> tf_pb.FunctionDef:
        names = self._tree.concrete_functions(self._tree.child(number, child))
        concrete = self._meta_graph.object_graph_def.concrete_functions
        if not names or names[0] not in self._library or names[0] not in concrete:
            raise MalformedError(
                f"the resource {self._tree.path(number)!r} has no function {child!r}",
                where=self._tree.where,
            )
        return self._library[names[0]]

    def _content_digest(
        self, create: tf_pb.FunctionDef, fill: tf_pb.FunctionDef, initialize: Trace
    ) -> str:
        """Names a table by what is in it.

        TensorFlow 1 finds a table by name in the whole session: two modules must not meet in one
        name unless their tables are equal.
        """
        digest = hashlib.sha256()
        for made_of in (*create.node_def, *fill.node_def):
            content = tf_pb.NodeDef()
            content.CopyFrom(made_of)
            content.attr.pop("shared_name", None)
            digest.update(content.SerializeToString(deterministic=True))
        for number in initialize.captures:
            self._tree.check_captured(initialize.function, number)
            kind, node = self._tree.kind(number), self._tree.nodes[number]
            if kind == "asset":
                name = self._asset(node.asset.asset_file_def_index)
                digest.update(asset_digest(self._state.files[name]))
            elif kind == "constant":
                constant = self._constant(node.constant.operation)
                value = constant.attr["value"].SerializeToString(deterministic=True)
                digest.update(value)
            elif kind != "resource":
                raise UnsupportedError(
                    f"a table is filled from {self._tree.path(number)!r}, a {kind}; only constants "
                    "and assets can be read when a module is instantiated",
                    where=self._tree.where,
                )
        return digest.hexdigest()[:16]

    # -- variables -----------------------------------------------------------------------------

    def _add_variables(self, used: Collection[int], variants: Iterable[Tags]) -> None:
        tree = self._tree
        listed = tree.child(ROOT, "variables")
        # What a compiled model's optimizer keeps is not the model's: a module is trained anew.
        members = tree.variables(skipped="optimizer") if listed is None else tree.items(listed)
        wanted = sorted({n for n in (*members, *used) if tree.kind(n) == "variable"})
        if wanted and self._index is None:
            raise MalformedError("there is no checkpoint in variables/", where=tree.where)
        others = sorted(set(tree.variables()).difference(wanted))
        places = (
            {} if self._index is None else places_of_variables(tree, wanted, self._index, others)
        )
        names = names_of(tree, wanted, used)
        trained = tree.child(ROOT, "trainable_variables")
        trainable = (
            [n for n in wanted if tree.nodes[n].variable.trainable]
            if trained is None
            else [n for n in dict.fromkeys(tree.items(trained)) if n in names]
        )
        is_trainable = frozenset(trainable)
        for number in wanted:
            saved = tree.nodes[number].variable
            self._state.variables[number] = Variable(
                name=names[number],
                dtype=saved.dtype,
                shape=places[number].shape,
                trainable=number in is_trainable,
                data=_range(places[number], names[number], tree.where),
                synchronization=saved.synchronization,
                aggregation=saved.aggregation,
                variants=set(variants),
            )
            self._report.variables.append(
                VariableReport(names[number], saved.name, tree.path(number))
            )
        self._state.trainable = [names[n] for n in trainable]
        model_variables = tree.items(tree.child(ROOT, "model_variables"))
        self._state.model_variables = [names[n] for n in model_variables if n in names]
        self._report_left_out(wanted, others, places)

    def _report_left_out(
        self, wanted: list[int], others: list[int], places: Mapping[int, Entry]
    ) -> None:
        """Names the variables that are none of the model and that no function reads."""
        tree = self._tree
        kept = {
            (tree.nodes[n].variable.name, places[n].shape, data.crc32c)
            for n in wanted
            if (data := places[n].data) is not None
        }
        reason = "no function reads it, and it is none of the model's own"
        for number in others:
            name, entry = tree.nodes[number].variable.name, places.get(number)
            if entry and entry.data and (name, entry.shape, entry.data.crc32c) in kept:
                # Keras 3's export() stores each variable twice.
                copy = "the source has an equal copy that nothing reads; the module has one"
                self._report.remark("variable", name, copy)
            else:
                self._report.drop("variable", name or tree.path(number), reason)


def _range(entry: Entry, name: str, where: Where) -> ByteRange:
    if entry.data is None:
        raise UnsupportedError(f"variable {name!r} is stored in slices", where=where)
    return entry.data


def names_of(tree: ObjectTree, numbers: list[int], used: Collection[int]) -> dict[int, str]:
    """Gives each variable its own name, or its path in the model where several have one name.

    What functions read keeps its name before what nothing reads: Keras stores copies. Where only a
    list leads to a variable, it keeps its own name, with a number.
    """
    own = {n: tree.nodes[n].variable.name.partition(":")[0] for n in numbers}
    all_names, read_names = Counter(own.values()), Counter(own[n] for n in numbers if n in used)
    taken: set[str] = set()
    suffixes: dict[str, int] = {}
    names: dict[int, str] = {}
    for number in sorted(numbers, key=lambda n: n not in used):
        name = own[number]
        alone = (read_names if number in used else all_names)[name] == 1
        clear = alone or tree.is_only_listed(number)
        wanted = name if name and clear else tree.path(number)
        wanted = re.sub(r"^[^A-Za-z0-9.]+", "", node_name(wanted)) or "variable"
        names[number] = unique_name(wanted, taken.__contains__, suffixes)
        taken.add(names[number])
    return names
