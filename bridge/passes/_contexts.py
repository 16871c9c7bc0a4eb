"""Control flow contexts: what the Python of TensorFlow 1 knows of conditionals and loops.

A graph of Switch, Merge, Enter and their like runs without contexts, but can't be differentiated:
tf.gradients asks them which nodes belong to which branch and loop, and how a value from outside
comes in. A MetaGraphDef holds them in the collections `cond_context` and `while_context`
(CondContext and WhileContext in tensorflow/python/ops/control_flow_ops.py,
tensorflow/core/protobuf/control_flow.proto). The classes here bring values in as those do, and keep
the same records; they have a TensorFlow 1 program's names for what they do.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.attrs import bool_attr, int_attr, ints_tensor_attr, string_attr, type_attr
from bridge.graph import Graph, Tensor
from bridge.proto import tf_pb


def full_name(tensor: Tensor) -> str:
    """Returns a tensor's name as Python's TensorFlow prints it, with its index always."""
    return f"{tensor.node}:{tensor.output}"


class Context:
    """Where nodes are made: outside of any branch and loop, or in one of these.

    Attributes:
      graph: the graph.
      outer: the context that this one is in; None for the outermost.
      pivot: what a node waits for that would otherwise run whether or not its branch or iteration
        does; None for the outermost.
    """

    def __init__(self, graph: Graph, outer: Context | None = None, pivot: Tensor | None = None):
        """Creates a context without nodes."""
        self.graph = graph
        self.outer = outer
        self.pivot = pivot
        self.nested: list[CondContext | WhileContext] = []
        self._values: dict[Tensor, None] = {}
        self._external: dict[Tensor, Tensor] = {}
        self._invariants: set[Tensor] = set()

    def add(
        self, op: str, name: str, inputs: Iterable[Tensor], **attrs: tf_pb.AttrValue
    ) -> tf_pb.NodeDef:
        """Adds a node; its inputs must be in this context. Control inputs are Tensors too."""
        name = self.graph.unique_name(name)
        node = self.graph.add(op, name, [str(tensor) for tensor in inputs], **attrs)
        self.adopt(node)
        return node

    def adopt(self, node: tf_pb.NodeDef) -> None:
        """Records the outputs of a new node as values of this context."""
        for position in range(len(self.graph.outputs(node))):
            self._record(Tensor(node.name, position))

    def add_ints(self, name: str, value: int | list[int]) -> Tensor:
        """Adds an int32 Const."""
        node = self.add(
            "Const",
            name,
            [] if self.pivot is None else [Tensor(self.pivot.node, -1)],
            dtype=type_attr(tf_pb.DT_INT32),
            value=ints_tensor_attr(tf_pb.DT_INT32, value),
        )
        return Tensor(node.name, 0)

    def bring_in(self, tensor: Tensor) -> Tensor:
        """Returns the tensor that holds a value of this context or an outer one in this one."""
        return tensor

    def is_invariant(self, tensor: Tensor) -> bool:
        """True for a value that does not wait for an iteration to begin."""
        return tensor in self._invariants

    def _record(self, tensor: Tensor) -> None:
        """Records a value of this context."""

    def _dtype(self, tensor: Tensor) -> tf_pb.AttrValue:
        return type_attr(self.graph.output(tensor).dtype)

    def _values_def(self) -> tf_pb.ValuesDef:
        return tf_pb.ValuesDef(
            values=sorted(map(full_name, self._values)),
            external_values={full_name(k): full_name(v) for k, v in self._external.items()},
        )

    def _nested_defs(self) -> list[tf_pb.ControlFlowContextDef]:
        defs: list[tf_pb.ControlFlowContextDef] = []
        for context in self.nested:
            if isinstance(context, CondContext):
                defs.append(tf_pb.ControlFlowContextDef(cond_ctxt=context.to_proto()))
            else:
                defs.append(tf_pb.ControlFlowContextDef(while_ctxt=context.to_proto()))
        return defs


class CondContext(Context):
    """One branch of a conditional."""

    def __init__(self, outer: Context, name: str, predicate: Tensor, pivot: Tensor, branch: int):
        """Creates a branch without nodes.

        Args:
          outer: the context of the conditional.
          name: name of this context.
          predicate: the predicate, in the outer context.
          pivot: an Identity of the predicate that is alive only if this branch is taken.
          branch: 1 for the branch that is taken when the predicate is true, else 0.
        """
        super().__init__(outer.graph, outer, pivot)
        self.name = name
        self._predicate = predicate
        self._branch = branch
        self._values = {predicate: None, pivot: None}
        self._external = {predicate: predicate}
        outer.nested.append(self)

    def bring_in(self, tensor: Tensor) -> Tensor:
        """Sends a value from outside down this branch; each branch has Switches of its own."""
        if tensor in self._values:
            return self._external.get(tensor, tensor)
        self._values[tensor] = None
        assert self.outer is not None
        outside = self.outer.bring_in(tensor)
        if outside != tensor:
            self._values[outside] = None
            self._external[outside] = outside
        name = self.graph.unique_name(f"{self.name.rpartition('/')[0]}/Switch")
        inputs = [str(outside), str(self._predicate)]
        self.graph.add("Switch", name, inputs, T=self._dtype(outside))
        result = Tensor(name, self._branch)
        self._external[tensor] = result
        self._record(result)
        return result

    def _record(self, tensor: Tensor) -> None:
        context: Context | None = self
        while context is not None:
            context._values[tensor] = None
            context = context.outer

    def to_proto(self) -> tf_pb.CondContextDef:
        """Returns the context as a collection holds it."""
        assert self.pivot is not None
        return tf_pb.CondContextDef(
            context_name=self.name,
            pred_name=full_name(self._predicate),
            pivot_name=full_name(self.pivot),
            branch=self._branch,
            values_def=self._values_def(),
            nested_contexts=self._nested_defs(),
        )


class WhileContext(Context):
    """The condition and the body of a loop; the name of its frame is that of the context."""

    def __init__(self, outer: Context, name: str, parallel_iterations: int):
        """Creates a loop without nodes."""
        super().__init__(outer.graph, outer)
        self.name = name
        self._parallel_iterations = parallel_iterations
        self.enters: list[Tensor] = []
        self.exits: list[Tensor] = []
        self.condition: Tensor | None = None
        self.pivot_for_condition: Tensor | None = None
        outer.nested.append(self)

    def enter(self, tensor: Tensor, controls: Iterable[Tensor], *, is_constant: bool) -> Tensor:
        """Lets a value of the outer context into the loop."""
        name = self.graph.unique_name(f"{self.name.rpartition('/')[0]}/Enter")
        self.graph.add(
            "Enter",
            name,
            [str(tensor), *map(str, controls)],
            T=self._dtype(tensor),
            frame_name=string_attr(self.name),
            is_constant=bool_attr(is_constant),
            parallel_iterations=int_attr(self._parallel_iterations),
        )
        result = Tensor(name, 0)
        self._record(result)
        if is_constant:
            self._invariants.add(result)
        else:
            self.enters.append(result)
        return result

    def leave(self, tensor: Tensor, name: str) -> Tensor:
        """Gives a value to the outer context when the loop ends."""
        node = self.add("Exit", name, [tensor], T=self._dtype(tensor))
        result = Tensor(node.name, 0)
        self.exits.append(result)
        assert self.outer is not None
        self.outer._values[result] = None
        return result

    def bring_in(self, tensor: Tensor) -> Tensor:
        """Makes a value from outside an invariant of the loop."""
        if tensor in self._values:
            return self._external.get(tensor, tensor)
        self._values[tensor] = None
        assert self.outer is not None
        result = self.enter(self.outer.bring_in(tensor), (), is_constant=True)
        self._external[tensor] = result
        return result

    def _record(self, tensor: Tensor) -> None:
        self._values[tensor] = None

    def to_proto(self) -> tf_pb.WhileContextDef:
        """Returns the context as a collection holds it."""
        assert self.condition is not None
        assert self.pivot is not None
        assert self.pivot_for_condition is not None
        return tf_pb.WhileContextDef(
            context_name=self.name,
            parallel_iterations=self._parallel_iterations,
            back_prop=True,
            pivot_name=full_name(self.condition),
            pivot_for_pred_name=full_name(self.pivot_for_condition),
            pivot_for_body_name=full_name(self.pivot),
            loop_exit_names=map(full_name, self.exits),
            loop_enter_names=map(full_name, self.enters),
            values_def=self._values_def(),
            nested_contexts=self._nested_defs(),
        )
