"""A module in a graph: the implementation of `Module` for `tf.compat.v1` programs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bridge.hub._graph.instance import apply_signature, create_state
from bridge.hub._graph.ops import check_ops_are_known
from bridge.hub._graph.scopes import free_state_scope
from bridge.hub._graph.variables import flat_variables
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError, ArgumentValueError, CallRuntimeError
from bridge.hub.inputs import check_supported, chosen_outputs, refuse_second, signature_inputs
from bridge.hub.loading import as_module_spec
from bridge.hub.module import Module
from bridge.hub.spec import ModuleSpec


class GraphModule(Module):
    """An instance of a module in the graph that was the default one when it was made.

    Made while a function is built, it is an instance in the graph around the function. It can be
    applied in its graph and while functions are built that belong to it: branches of tf.cond,
    bodies of tf.while_loop, functions of tf.data, tf.function.

    Attributes:
      name: the last part of the name of the scope of its variables.
      tags: the tags of its graph variant.
      trainable: whether its variables are to be trained.
    """

    def __init__(
        self,
        spec: ModuleSpec | str | os.PathLike[str],
        trainable: bool = False,
        name: str = "module",
        tags: Iterable[str] | None = None,
    ):
        """Adds the module's state to the graph, see `Module`."""
        if not name:
            raise ArgumentValueError("the name of a module is empty")
        self._spec = as_module_spec(spec)
        self.tags = self._spec._checked_tags(tags)
        self.trainable = trainable
        where = self._spec._where(self.tags)
        meta_graph = self._spec._meta_graph(self.tags)
        check_ops_are_known(meta_graph, where)
        # State belongs to the program, not to the function, branch or loop that it is made in.
        with tf.init_scope():
            self._graph = tf.compat.v1.get_default_graph()
            around, _, self.name = free_state_scope(name).rpartition("/")
            with self._graph.name_scope(f"{around}/" if around else None):
                self._instance = create_state(meta_graph, self.name, trainable, where)
                self._saver = self._init_and_saver(self._spec._checkpoint)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(
        self,
        inputs: Any = None,
        _sentinel: None = None,
        signature: str | None = None,
        as_dict: bool | None = None,
    ) -> Any:
        """Adds the ops of a signature to the graph, see `Module`."""
        refuse_second(_sentinel)
        self._check_graph()
        signature = self._spec._checked_signature(signature, self.tags)
        where = replace(self._spec._where(self.tags), signature=signature)
        check_supported(self._spec.get_output_info_dict(signature, self.tags), "output", where)
        tensors = signature_inputs(
            inputs, self._spec.get_input_info_dict(signature, self.tags), where
        )
        # Signatures of SavedModels may have a colon in their names, scopes may not.
        name = f"{self.name}_apply_{signature.replace(':', '_')}"
        outputs = apply_signature(self._instance, signature, tensors, name, where)
        return chosen_outputs(outputs, as_dict, where)

    @property
    def variable_map(self) -> dict[str, Any]:
        """The variables by name in the module; of a partitioned one, the list of its parts."""
        return self._instance.variables

    @property
    def variables(self) -> list[Any]:
        """All variables, sorted by name."""
        return flat_variables(self._instance.variables)

    @property
    def trainable_variables(self) -> list[Any]:
        """Those of the variables that are in the graph's collection of trainable ones."""
        with self._graph.as_default():
            there = {variable.ref() for variable in tf.compat.v1.trainable_variables()}
        return [variable for variable in self.variables if variable.ref() in there]

    def export(self, path: str | os.PathLike[str], session: Any) -> None:
        """Writes the module with the variables' values in a session, see `Module`."""
        from bridge.hub.export import write_module

        if session is None:
            raise ArgumentTypeError(
                "the variables of a module in a graph have their values in a session",
                hint="call module.export(path, session)",
            )
        for graph, what in (
            (tf.compat.v1.get_default_graph(), "default graph"),
            (session.graph, "graph of the session"),
        ):
            if graph is not self._graph:
                raise CallRuntimeError(
                    f"the {what} is not the graph that the module was made in",
                    hint="export in the graph of the module, with a session of it",
                )
        write_module(
            self._spec,
            path,
            lambda prefix: self._saver.save(
                session, prefix, write_meta_graph=False, write_state=False
            ),
        )

    def _init_and_saver(self, checkpoint: str | None) -> Any:
        """Lets the initializers restore the module's values; returns what can save the variables.

        The saver is made now, since a graph may be finalized when its module is exported.
        """
        if not self._instance.variables:
            return None
        if checkpoint is not None:
            tf.compat.v1.train.init_from_checkpoint(checkpoint, self._instance.variables)
        return tf.compat.v1.train.Saver(self._instance.variables, sharded=True)

    def _check_graph(self) -> None:
        """Refuses a graph that is neither the module's nor that of a function within it."""
        graph = tf.compat.v1.get_default_graph()
        while graph is not self._graph:
            if graph is None or not graph.building_function:
                raise CallRuntimeError(
                    "the module is applied in another graph than it was made in",
                    hint="make the module in the graph that it is applied in",
                )
            graph = graph.outer_graph
