"""Whether servers fill the tables of a SavedModel as the loader of its objects does.

That runs a function for each object that has one; a server runs the op that the SignatureDef
INIT_OP or the collection MAIN_OP names (tf.saved_model.save, `_fill_meta_graph_def`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge._surfaces.filled_tables import FilledTables
from bridge._surfaces.opened import OpenedSavedModel
from bridge._surfaces.tables import Filling
from bridge.graph import parse_tensor
from bridge.ops import CALLS
from bridge.proto import tf_pb
from bridge.saved_model.serving import INIT_OP
from bridge.saved_model.writer import MAIN_OP

_Content = frozenset[bytes]


def unfilled_tables(
    opened: OpenedSavedModel, filled: FilledTables, objects: Mapping[str, int]
) -> str | None:
    """Says which tables a server does not fill, or not as its loader does.

    Args:
      opened: the SavedModel.
      filled: reads what fills its tables.
      objects: the objects that tensors of its graph are, as far as is known.

    Returns:
      What is wrong; empty if nothing is, None if nothing is to be filled.

    Raises:
      MalformedError: what is run is no well-formed graph.
    """
    tree = opened.tree
    resources = [n for n in range(len(tree.nodes)) if tree.kind(n) == "resource"]
    needed = [initializer for n in resources for initializer in filled.of_object(n)[:1]]
    if not needed:
        return None
    nodes = {node.name: node for node in opened.meta_graph.graph_def.node}
    run = _run(nodes, _init_ops(opened.meta_graph))
    if not run:
        return "no op is named that fills its tables where a server loads them"

    # Older releases of TensorFlow trace the functions once more, so that names say nothing.
    called = {nodes[name].attr["f"].func.name for name in run if nodes[name].op in CALLS}
    functions = {initializer.function for initializer in needed}
    if (lost := len(functions) - len(called)) > 0:
        text = f"{lost} of {len(functions)} functions that fill tables are not run"
        return f"{text} where a server loads it"

    served: dict[int, _Content] = {}
    others: set[_Content] = set()
    for node, found in filled.of_servers(run).items():
        number = objects.get(node)
        if number is None:
            others.add(_content(found))
        else:
            served[number] = _content(found)
    for initializer in needed:
        for number, fillings in initializer.fillings.items() if initializer.is_known else ():
            content = _content(fillings)
            if content != served.get(number, content if content in others else None):
                how = "filled otherwise" if number in served else "not filled"
                return f"its table {tree.path(number)!r} is {how} where a server loads it"
    return ""


def _content(fillings: Iterable[Filling]) -> _Content:
    return frozenset(filling.digest for filling in fillings)


def _run(nodes: Mapping[str, tf_pb.NodeDef], targets: Iterable[str]) -> set[str]:
    """Returns the nodes that run with others, those that are there."""
    run: set[str] = set()
    todo = list(targets)
    while todo:
        name = todo.pop()
        if name not in run and name in nodes:
            run.add(name)
            todo += [parse_tensor(tensor).node for tensor in nodes[name].input]
    return run


def _init_ops(meta_graph: tf_pb.MetaGraphDef) -> Iterator[str]:
    definitions, collections = meta_graph.signature_def, meta_graph.collection_def
    if INIT_OP in definitions:
        for info in definitions[INIT_OP].outputs.values():
            yield parse_tensor(info.name).node
    elif MAIN_OP in collections:
        for name in collections[MAIN_OP].node_list.value:
            yield parse_tensor(name).node
