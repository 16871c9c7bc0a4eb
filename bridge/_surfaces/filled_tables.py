"""What functions put into the tables of a SavedModel, for its objects and for servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge._surfaces.bodies import Bodies
from bridge._surfaces.contents import Contents, digest
from bridge._surfaces.tables import Filling, Given, TableReader, asset_given
from bridge.errors import MalformedError
from bridge.graph import Graph, Tensor, parse_tensor
from bridge.proto import tf_pb
from bridge.saved_model.object_tree import ObjectTree
from bridge.validate import check_nodes


@dataclass(frozen=True)
class Initializer:
    """A function that the loader of the objects runs to fill a table.

    Attributes:
      function: its name.
      fillings: what it puts into each table that it fills, by the table's number.
      is_known: whether it reads no object but these tables, so that what it reads is known without
        the objects too.
    """

    function: str
    fillings: Mapping[int, Sequence[Filling]]
    is_known: bool


class FilledTables:
    """Reads what fills the tables of a SavedModel."""

    def __init__(
        self,
        tree: ObjectTree,
        bodies: Bodies,
        graph: Graph,
        meta_graph: tf_pb.MetaGraphDef,
        directory: Path,
        assets: Mapping[str, str],
    ):
        """Takes the SavedModel.

        Args:
          tree: its objects.
          bodies: its functions.
          graph: has their library.
          meta_graph: its one model.
          directory: where it lies.
          assets: digest of each asset file, by name.
        """
        self._tree = tree
        self._graph = graph
        self._meta_graph = meta_graph
        self._assets = assets
        self._contents = Contents(bodies)
        self._reader = TableReader(bodies, self._contents, directory)
        self._concrete = meta_graph.object_graph_def.concrete_functions
        self._constants = {n.name: n for n in meta_graph.graph_def.node if n.op == "Const"}

    def of_object(self, number: int) -> list[Initializer]:
        """Returns the functions that fill a table when it is loaded as an object.

        Raises:
          MalformedError: there is no such function, or it captures what is not there.
        """
        tree = self._tree
        result: list[Initializer] = []
        for name in tree.concrete_functions(tree.child(number, "_initialize")):
            if name not in self._graph.functions or name not in self._concrete:
                raise MalformedError(f"there is no function {name!r}", where=tree.where)
            bound = list(self._concrete[name].bound_inputs)
            tree.check_captured(name, *bound)
            found = self._reader.of_function(name, list(map(self._captured, bound)))
            fillings = {bound[place]: those for place, those in found.items()}
            others = set(bound) - fillings.keys()
            is_known = all(tree.kind(other) in ("asset", "constant") for other in others)
            result.append(Initializer(name, fillings, is_known))
        return result

    def of_servers(self, run: Iterable[str]) -> dict[str, list[Filling]]:
        """Returns what fills each table where a server loads the graph, by the table's node.

        Args:
          run: names of the nodes that it runs then, and of all that they depend on.

        Raises:
          MalformedError: these nodes are no well-formed graph.
        """
        wanted = set(run)
        nodes = [node for node in self._meta_graph.graph_def.node if node.name in wanted]
        graph = Graph(nodes, self._graph.ops, where=self._graph.where)
        graph.functions = self._graph.functions  # to index them once more takes long
        check_nodes(graph)
        given = {
            parse_tensor(file.tensor_info.name).node: asset_given(file.filename, self._assets)
            for file in self._meta_graph.asset_file_def
        }
        # Newer releases of TensorFlow put the path into a variable first.
        paths: dict[str, Given] = {}
        for node in graph.nodes.values():
            if node.op == "AssignVariableOp" and (path := node.input[1]) in given:
                paths[node.input[0]] = given[path]
        for node in graph.nodes.values():
            if node.op == "ReadVariableOp" and node.input[0] in paths:
                given[node.name] = paths[node.input[0]]
        return self._reader.of_graph(graph, graph.nodes, given)

    def _captured(self, number: int) -> Given:
        node = self._tree.nodes[number]
        if node.HasField("asset"):
            position = node.asset.asset_file_def_index
            files = self._meta_graph.asset_file_def
            name = files[position].filename if 0 <= position < len(files) else ""
            return asset_given(name, self._assets)
        if node.HasField("constant") and node.constant.operation in self._constants:
            constant = self._constants[node.constant.operation]
            alone = Graph([constant], self._graph.ops, where=self._graph.where)
            (content,) = self._contents.of_tensors(alone, [Tensor(constant.name, 0)], {})
            return Given(content, constant.attr["value"].tensor)
        return Given(digest("object", str(number)))
