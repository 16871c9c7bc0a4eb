"""Builds the graph of a variant out of calls of the SavedModel's functions."""

from __future__ import annotations

import re
from dataclasses import replace

from bridge.attrs import (
    bool_attr,
    bool_tensor_attr,
    float_tensor_attr,
    function_attr,
    shape_attr,
    strings_tensor_attr,
    type_attr,
    types_attr,
)
from bridge.inline import ENTRY
from bridge.model import DEFAULT, Component, Encoding, Endpoint, Signature, Variant
from bridge.proto import tf_pb
from bridge.saved_model.names import TRAINING
from bridge.saved_model.state_reader import SavedState
from bridge.saved_model.traces import Leaf, Trace

_SPARSE_PARTS = ("indices", "values", "dense_shape")


class VariantBuilder:
    """Adds signatures, losses and tables to a variant, and what they refer to."""

    def __init__(self, variant: Variant, state: SavedState, *, training: bool):
        """Declares the variables.

        Args:
          variant: the variant; its graph has the function library and no nodes yet.
          state: what functions capture.
          training: what functions are given that take `training` as a tensor.
        """
        self._variant = variant
        self._graph = variant.graph
        self._state = state
        self._training = training
        self._handles: dict[int, str] = {}
        self._inputs: dict[tuple[str, str], str] = {}
        self._mode = ""
        for number, variable in sorted(state.variables.items(), key=lambda item: item[1].name):
            self._graph.nodes[variable.name] = variable.handle()
            self._handles[number] = variable.name
        variant.trainable_variables = list(state.trainable)
        variant.model_variables = list(state.model_variables)

    def add_signature(self, name: str, trace: Trace) -> None:
        """Adds a signature that calls a function."""
        inputs: dict[str, Endpoint] = {}
        arguments: list[str] = []
        for leaf in trace.inputs:
            if leaf.is_training:
                arguments.append(self._training_node())
                continue
            if leaf.default is not None:
                arguments.append(self._default_node(leaf.argument, leaf.default))
                continue
            endpoint = self._placeholders(leaf)
            inputs[leaf.key] = endpoint
            arguments += [component.name for component in endpoint.components]
        call = self._call(trace, arguments)
        outputs: dict[str, Endpoint] = {}
        position = 0
        for leaf in trace.outputs:
            components: list[Component] = []
            for component in leaf.endpoint.components:
                tensor = self._output(trace, call, position, component)
                components.append(replace(component, name=tensor))
                position += 1
            outputs[leaf.key] = replace(leaf.endpoint, components=tuple(components))
        if len(outputs) == 1 and DEFAULT not in outputs and name == DEFAULT:
            outputs[DEFAULT] = next(iter(outputs.values()))
        self._variant.signatures[name] = Signature(
            name, dict(sorted(inputs.items())), dict(sorted(outputs.items()))
        )

    def add_loss(self, trace: Trace) -> None:
        """Adds a regularization loss."""
        self._variant.regularization_losses.append(f"{self._call(trace, [])}:0")

    def _call(self, trace: Trace, arguments: list[str]) -> str:
        inputs = [*arguments, *(self._handle(number) for number in trace.captures)]
        function = self._graph.functions[trace.function].signature
        call = self._add_call(function, inputs)
        self._graph.nodes[call].attr[ENTRY].CopyFrom(bool_attr(True))
        return call

    def _output(self, trace: Trace, call: str, position: int, component: Component) -> str:
        """Returns an output of a call, which is there when all that the function must run has run.

        tf.function makes outputs wait for that itself; other functions do not.
        """
        if not self._graph.functions[trace.function].signature.control_output:
            return f"{call}:{position}"
        name = self._graph.unique_name("Identity")
        inputs = [f"{call}:{position}", f"^{call}"]
        self._graph.add("Identity", name, inputs, T=type_attr(component.dtype))
        return f"{name}:0"

    def _add_call(self, function: tf_pb.OpDef, inputs: list[str]) -> str:
        call = self._graph.add(
            "StatefulPartitionedCall",
            self._graph.unique_name("StatefulPartitionedCall"),
            inputs,
            f=function_attr(function.name),
            Tin=types_attr(arg.type for arg in function.input_arg),
            Tout=types_attr(arg.type for arg in function.output_arg),
        )
        return call.name

    # -- inputs --------------------------------------------------------------------------------

    def _training_node(self) -> str:
        if not self._mode:
            self._mode = self._graph.unique_name(TRAINING)
            self._graph.add(
                "Const",
                self._mode,
                dtype=type_attr(tf_pb.DT_BOOL),
                value=bool_tensor_attr(self._training),
            )
        return self._mode

    def _default_node(self, argument: str, default: float) -> str:
        name = self._graph.unique_name(argument)
        value = float_tensor_attr(default)
        self._graph.add("Const", name, dtype=type_attr(tf_pb.DT_FLOAT), value=value)
        return name

    def _placeholders(self, leaf: Leaf) -> Endpoint:
        """Returns an input; signatures with an input of the same key and type share it."""
        parts: list[Component] = []
        for position, component in enumerate(leaf.endpoint.components):
            name = leaf.key
            if leaf.endpoint.encoding is Encoding.SPARSE:
                name = f"{leaf.key}/{_SPARSE_PARTS[position]}"
            elif leaf.endpoint.encoding is Encoding.COMPOSITE:
                name = f"{leaf.key}/{position}"
            parts.append(replace(component, name=f"{self._placeholder(name, component)}:0"))
        return replace(leaf.endpoint, components=tuple(parts))

    def _placeholder(self, name: str, component: Component) -> str:
        key = (name, f"{component.dtype} {component.shape}")
        if key not in self._inputs:
            cleaned = re.sub(r"[^A-Za-z0-9_./-]", "_", name)
            node = self._graph.add(
                "Placeholder",
                self._graph.unique_name(re.sub(r"^[^A-Za-z0-9.]+", "", cleaned) or "input"),
                dtype=type_attr(component.dtype),
                shape=shape_attr(component.shape),
            )
            self._inputs[key] = node.name
        return self._inputs[key]

    # -- state ---------------------------------------------------------------------------------

    def _handle(self, number: int) -> str:
        if number not in self._handles:
            self._handles[number] = self._add_handle(number)
            if number in self._state.tables:
                fill = self._call(self._state.tables[number].initialize, [])
                self._variant.table_initializers.append(fill)
        return self._handles[number]

    def _add_handle(self, number: int) -> str:
        state, graph = self._state, self._graph
        if number in state.assets:
            filename = state.assets[number]
            name = graph.unique_name("asset_path")
            value = strings_tensor_attr(filename.encode())
            graph.add("Const", name, dtype=type_attr(tf_pb.DT_STRING), value=value)
            self._variant.assets[name] = filename
            return name
        if number in state.constants:
            node = tf_pb.NodeDef()
            node.CopyFrom(state.constants[number])
            node.name = graph.unique_name(node.name)
            graph.nodes[node.name] = node
            return node.name
        create = state.tables[number].create
        graph.functions[create.signature.name] = create
        return self._add_call(create.signature, [])
