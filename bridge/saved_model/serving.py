"""The plain graph of a SavedModel, for loaders that know no objects.

TensorFlow Serving, tf.compat.v1.saved_model.load and TF 1.x run this graph in a session: they
restore variables by `saver_def`, run the init op, feed placeholders and fetch outputs. The names
are those that TensorFlow 2 itself gives (python/saved_model/save.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bridge.attrs import (
    function_attr,
    shape_attr,
    string_attr,
    strings_tensor_attr,
    type_attr,
    types_attr,
)
from bridge.graph import Graph
from bridge.model import Model
from bridge.opsets import OpTable
from bridge.proto import tf_pb
from bridge.saved_model.bodies import Body, Captured
from bridge.saved_model.objects import checkpoint_key
from bridge.saved_model.state import State
from bridge.saved_model.structured_value import parts_of
from bridge.tensor_info import tensor_info

INIT_OP = "__saved_model_init_op"
METHOD = "tensorflow/serving/predict"
ASSET_PLACEHOLDER = b"the loader feeds the path here"


class ServingGraph:
    """Builds the graph and its SignatureDefs."""

    def __init__(self, model: Model, state: State):
        """Adds variables, assets, tables, and the ops that restore and initialize them."""
        self._state = state
        self.graph = Graph((), OpTable())
        self.signatures: dict[str, tf_pb.SignatureDef] = {}
        self.assets: list[tf_pb.AssetFileDef] = []
        self._tensors: dict[tuple[str, str], str] = {}
        self._init_ops: list[str] = []
        self._asset_variables: dict[str, str] = {}
        self._add_state(model)
        self.saver_def = self._add_saver(model)

    def _add(self, op: str, name: str, inputs: Sequence[str] = (), **attrs: tf_pb.AttrValue) -> str:
        return self.graph.add(op, self.graph.unique_name(name), inputs, **attrs).name

    # -- state ---------------------------------------------------------------------------------

    def _add_state(self, model: Model) -> None:
        for variable in model.variables.values():
            name = self._add(
                "VarHandleOp",
                variable.name,
                dtype=type_attr(variable.dtype),
                shape=shape_attr(variable.shape),
                shared_name=string_attr(variable.name),
            )
            self._tensors["variable", variable.name] = name
        for filename in self._state.assets:
            name = self._add(
                "Const",
                "asset_path_initializer",
                dtype=type_attr(tf_pb.DT_STRING),
                value=strings_tensor_attr(ASSET_PLACEHOLDER),
            )
            self._tensors["asset", filename] = name
            info = tf_pb.TensorInfo(name=f"{name}:0")
            self.assets.append(tf_pb.AssetFileDef(tensor_info=info, filename=filename))
        for table in self._state.tables.values():
            node = table.node
            self._tensors[table.captured.key] = self._add(
                node.op, node.name, (), **{key: node.attr[key] for key in node.attr}
            )
        for table in self._state.tables.values():
            self._init_ops.append(self._call(table.initialize, [], initializing=True))

    def _captured(self, capture: Captured, initializing: bool) -> str:
        """Returns the tensor that a captured argument gets.

        A loader feeds the path of an asset only while it runs the init op. What needs the path
        later gets it from a variable that the init op sets.
        """
        tensor = self._tensors[capture.key]
        if capture.key[0] != "asset" or initializing:
            return tensor
        filename = capture.key[1]
        if filename not in self._asset_variables:
            scalar = shape_attr(())
            string = type_attr(tf_pb.DT_STRING)
            handle = self._add("VarHandleOp", "asset_path", dtype=string, shape=scalar)
            self.graph.nodes[handle].attr["shared_name"].s = handle.encode()
            assign = self._add(
                "AssignVariableOp", f"{handle}/Assign", [handle, tensor], dtype=string
            )
            self._init_ops.append(assign)
            self._asset_variables[filename] = self._add(
                "ReadVariableOp", f"{handle}/Read/ReadVariableOp", [handle], dtype=string
            )
        return self._asset_variables[filename]

    def _add_saver(self, model: Model) -> tf_pb.SaverDef:
        """Adds plain save and restore ops for every variable."""
        string = type_attr(tf_pb.DT_STRING)
        scalar = shape_attr(())
        filename = self._add("Placeholder", "saver_filename", dtype=string, shape=scalar)
        variables = list(model.variables.values())
        keys = [checkpoint_key(variable.name).encode() for variable in variables]
        dtypes = types_attr(variable.dtype for variable in variables)
        names = self._add(
            "Const", "save/tensor_names", dtype=string, value=strings_tensor_attr(keys)
        )
        slices = self._add(
            "Const",
            "save/shape_and_slices",
            dtype=string,
            value=strings_tensor_attr([b""] * len(keys)),
        )
        reads = []
        for variable in variables:
            handle = self._tensors["variable", variable.name]
            dtype = type_attr(variable.dtype)
            read = f"{variable.name}/Read/ReadVariableOp"
            reads.append(self._add("ReadVariableOp", read, [handle], dtype=dtype))
        save_inputs = [filename, names, slices, *reads]
        if variables:
            save = [f"^{self._add('SaveV2', 'save/SaveV2', save_inputs, dtypes=dtypes)}"]
            restore = self._add(
                "RestoreV2", "save/RestoreV2", [filename, names, slices], dtypes=dtypes
            )
        else:
            save, restore = [], ""
        saved = self._add("Identity", "save/control_dependency", [filename, *save], T=string)
        assigns = []
        for position, variable in enumerate(variables):
            tensor = f"{restore}:{position}" if position else restore
            handle = self._tensors["variable", variable.name]
            assigns.append(
                self._add(
                    "AssignVariableOp",
                    f"save/Assign/{variable.name}",
                    [handle, tensor],
                    dtype=type_attr(variable.dtype),
                )
            )
        restored = self._add("NoOp", "save/restore_all", [f"^{name}" for name in assigns])
        return tf_pb.SaverDef(
            filename_tensor_name=f"{filename}:0",
            save_tensor_name=f"{saved}:0",
            restore_op_name=restored,
            version=tf_pb.SaverDef.V2,
        )

    # -- signatures ----------------------------------------------------------------------------

    def _call(self, body: Body, inputs: list[str], *, initializing: bool = False) -> str:
        function = self._state.library.functions[body.name].signature
        captured = [self._captured(capture, initializing) for capture in body.captures]
        return self._add(
            "StatefulPartitionedCall" if body.stateful else "PartitionedCall",
            "StatefulPartitionedCall" if body.stateful else "PartitionedCall",
            [*inputs, *captured],
            Tin=types_attr(arg.type for arg in function.input_arg),
            Tout=types_attr(arg.type for arg in function.output_arg),
            f=function_attr(body.name),
            _output_shapes=body.output_shapes(),
        )

    def add_signature(self, name: str, body: Body) -> None:
        """Adds placeholders, a call and the SignatureDef."""
        signature = tf_pb.SignatureDef(method_name=METHOD)
        placeholders: dict[str, list[str]] = {key: [] for key in body.inputs}
        for part in parts_of(body.inputs):
            placeholder = self._add(
                "Placeholder",
                _node_name(f"{name}_{part.name}"),
                dtype=type_attr(part.component.dtype),
                shape=shape_attr(part.component.shape),
            )
            placeholders[part.key].append(placeholder)
        for key, names in placeholders.items():
            info = tensor_info(body.inputs[key], [f"{name}:0" for name in names])
            signature.inputs[key].CopyFrom(info)
        call = self._call(body, [name for names in placeholders.values() for name in names])
        position = 0
        for key, endpoint in body.outputs.items():
            names = [f"{call}:{position + i}" for i in range(len(endpoint.components))]
            position += len(names)
            signature.outputs[key].CopyFrom(tensor_info(endpoint, names))
        self.signatures[name] = signature

    def finish(self) -> str:
        """Adds the init op; returns its name."""
        init = self._add("NoOp", "NoOp", [f"^{name}" for name in self._init_ops])
        info = tf_pb.TensorInfo(name=init, tensor_shape=tf_pb.TensorShapeProto(unknown_rank=True))
        self.signatures[INIT_OP] = tf_pb.SignatureDef(outputs={INIT_OP: info})
        return init


def _node_name(name: str) -> str:
    """Returns the nearest name that a node of a graph may have."""
    cleaned = re.sub(r"[^A-Za-z0-9_./-]", "_", name)
    return cleaned if cleaned[0].isalnum() else f"input{cleaned}"


def ops_used(
    nodes: Mapping[str, tf_pb.NodeDef], functions: Sequence[tf_pb.FunctionDef]
) -> set[str]:
    """Returns the names of all ops of a graph and its functions."""
    bodies = (node for function in functions for node in function.node_def)
    return {node.op for node in (*nodes.values(), *bodies)}
