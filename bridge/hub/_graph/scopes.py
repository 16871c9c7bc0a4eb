"""Where a module's state goes: a variable scope and a name scope that are one and unused."""

from __future__ import annotations

from bridge.hub._tf import tf
from bridge.hub.errors import CallRuntimeError


def free_state_scope(name: str) -> str:
    """Returns the name of an unused scope for a module's state: `name`, or `name_1` and so on.

    It lies in the current variable scope, not in the current name scope, as a variable would. The
    variable scope is taken, the name scope is not yet.

    Raises:
      RuntimeError: the variable scope is unused, and the name scope of that name is not. Variables
        would not have the names that their scope says.
      ValueError: `name` is no name of a scope.
    """
    graph = tf.compat.v1.get_default_graph()
    outer = tf.compat.v1.get_variable_scope().name
    with graph.name_scope(f"{outer}/" if outer else None):
        with tf.compat.v1.variable_scope(
            None, default_name=name, auxiliary_name_scope=False
        ) as scope:
            free = str(scope.name)
        if graph.unique_name(name, mark_as_used=False) != free:
            raise CallRuntimeError(
                f"the module can't be in the scope {free!r}: no variable scope has this name, but "
                "a name scope does",
                hint="give the module another name",
            )
    return free
