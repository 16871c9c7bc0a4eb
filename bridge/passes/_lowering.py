"""Puts v1 control flow in the place of If, Case and While.

What is built is what tf.cond and tf.while_loop of TensorFlow 1 build
(tensorflow/python/ops/control_flow_ops.py), contexts too. Only what something needs is built: a
context that named a node which is gone could not be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from bridge.attrs import int_attr, ints_tensor_attr, strings_tensor_attr, type_attr
from bridge.dtypes import dtype_name
from bridge.errors import UnsupportedError
from bridge.graph import Graph, Tensor, parse_tensor, unique_name
from bridge.passes._contexts import CondContext, Context, WhileContext
from bridge.passes._lists import Lists
from bridge.passes._lowered_bodies import Bodies, Done
from bridge.passes._lowered_functions import Functions
from bridge.passes._shapes import ShapeReader
from bridge.proto import tf_pb

_CASES = frozenset({"Case", "StatelessCase"})
_CONDS = frozenset({"If", "StatelessIf"})
_HINT = "save the model again with its loops and conditionals made by tf.while_loop and tf.cond"

_TRUTHS = frozenset(
    {
        tf_pb.DT_BOOL,
        tf_pb.DT_DOUBLE,
        tf_pb.DT_FLOAT,
        tf_pb.DT_INT8,
        tf_pb.DT_INT16,
        tf_pb.DT_INT32,
        tf_pb.DT_INT64,
        tf_pb.DT_STRING,
        tf_pb.DT_UINT8,
    }
)
"""Types of which TensorFlow makes a bool."""

Branch = Callable[[Context], Done]
"""Builds the inside of a branch; the outputs may lie outside of it."""


class Lowering:
    """Builds v1 control flow in a graph.

    Attributes:
      outermost: the context that is none; those of conditionals and loops are nested in it.
      lists: the lists of tensors.
    """

    def __init__(self, graph: Graph, parallel_iterations: int):
        """Takes the graph, whose functional nodes are to be replaced.

        Args:
          graph: the graph.
          parallel_iterations: how many iterations of any loop may run at a time, at least.
        """
        self.graph = graph
        self.outermost = Context(graph)
        self.lists = Lists(graph)
        self._functions = Functions(graph)
        self._bodies = Bodies(self._functions, self.lists, self.outermost, self._expand)
        self._parallel_iterations = parallel_iterations
        self._scopes: set[str] = set()
        self._shapes = ShapeReader(graph)

    def replace(self, node: tf_pb.NodeDef, wanted: Collection[int]) -> tuple[Done, list[str]]:
        """Builds what a functional node of the graph does.

        Args:
          node: the node, which is no longer in the graph.
          wanted: the outputs that are read.

        Returns:
          What stands in its place, and the nodes outside that read variables for it.
        """
        inputs = [parse_tensor(text) for text in node.input]
        data = [tensor for tensor in inputs if not tensor.is_control]
        controls = [tensor for tensor in inputs if tensor.is_control]
        self._bodies.begin(node, controls)
        done = self._expand(node, data, controls, wanted, self.outermost, node.name)
        return done, [read.node for read in self._bodies.reads.values()]

    # -- the three kinds ---------------------------------------------------------------------

    def _expand(
        self,
        node: tf_pb.NodeDef,
        inputs: list[Tensor],
        controls: list[Tensor],
        wanted: Collection[int],
        context: Context,
        name: str,
    ) -> Done:
        """Builds what a functional node does, in some context.

        Args:
          node: the node.
          inputs: its data inputs, of the context or outer ones.
          controls: what it waits for, in the context.
          wanted: the outputs that are read.
          context: where to build it.
          name: the wanted scope.
        """
        scope = self._scope(name)
        if node.op in _CONDS:
            branches = [node.attr["else_branch"].func.name, node.attr["then_branch"].func.name]
            predicate = self._truth(node, inputs[0], context, scope)
            build = [self._branch(branch, inputs[1:], wanted, scope) for branch in branches]
            return self._cond(scope, predicate, build[0], build[1], controls, context)
        if node.op in _CASES:
            names = [func.name for func in node.attr["branches"].list.func]
            build = [self._branch(branch, inputs[1:], wanted, scope) for branch in names]
            return self._case(scope, inputs[0], build, 0, controls, context)
        return self._loop(node, scope, inputs, controls, wanted, context)

    def _truth(self, node: tf_pb.NodeDef, tensor: Tensor, context: Context, scope: str) -> Tensor:
        """Returns the one bool that If and While make of a tensor.

        A scalar is true if it is not 0, or no empty text; any other tensor if it has elements
        (ToBool in tensorflow/core/kernels/functional_ops.cc). A bool is a scalar where it is not
        known to be none: tf.cond and tf.while_loop make no other.

        Raises:
          UnsupportedError: TensorFlow itself can't make a bool of it.
        """
        local = context.bring_in(tensor)
        dtype = self.graph.output(local).dtype
        if dtype == tf_pb.DT_BOOL and not self._shapes.shape(tensor):
            return local
        if dtype not in _TRUTHS:
            raise UnsupportedError(
                f"its predicate is {dtype_name(dtype)}, of which TensorFlow makes no bool",
                where=self.graph.at(node.name),
                hint=_HINT,
            )

        def add(op: str, inputs: list[Tensor], **attrs: int) -> Tensor:
            types = {key: type_attr(value) for key, value in attrs.items()}
            return Tensor(context.add(op, f"{scope}/predicate/{op}", inputs, **types).name, 0)

        each = local
        if dtype == tf_pb.DT_STRING:
            pivot = [] if context.pivot is None else [Tensor(context.pivot.node, -1)]
            attrs = {"dtype": type_attr(dtype), "value": strings_tensor_attr(b"")}
            empty = context.add("Const", f"{scope}/predicate/empty", pivot, **attrs)
            each = add("NotEqual", [local, Tensor(empty.name, 0)], T=dtype)
        elif dtype != tf_pb.DT_BOOL:
            each = add("Cast", [local], SrcT=dtype, DstT=tf_pb.DT_BOOL)
        # Of a tensor that is no scalar, each element counts, whatever it is.
        rank = add("Rank", [local], T=dtype)
        zero, one = (context.add_ints(f"{scope}/predicate/Const", value) for value in (0, 1))
        more = add("Greater", [rank, zero], T=tf_pb.DT_INT32)
        axes = add("Range", [zero, rank, one], Tidx=tf_pb.DT_INT32)
        return add("Any", [add("LogicalOr", [each, more]), axes], Tidx=tf_pb.DT_INT32)

    def _branch(
        self, function: str, inputs: list[Tensor], wanted: Collection[int], scope: str
    ) -> Branch:
        def build(context: Context) -> Done:
            return self._bodies.build(function, dict(enumerate(inputs)), wanted, context, scope)

        return build

    def _case(
        self,
        scope: str,
        index: Tensor,
        branches: list[Branch],
        number: int,
        controls: list[Tensor],
        context: Context,
    ) -> Done:
        """Builds one conditional for each branch but the last, which is for all other indices."""
        if number == len(branches) - 1:
            return branches[number](context)
        int32 = type_attr(tf_pb.DT_INT32)
        pivot = [] if context.pivot is None else [Tensor(context.pivot.node, -1)]
        value = ints_tensor_attr(tf_pb.DT_INT32, number)
        const = context.add("Const", f"{scope}/branch", pivot, dtype=int32, value=value)
        inputs = [context.bring_in(index), Tensor(const.name, 0)]
        equal = context.add("Equal", f"{scope}/Equal", inputs, T=int32)
        inner = self._scope(f"{scope}/case") if number else scope

        def others(branch: Context) -> Done:
            return self._case(inner, index, branches, number + 1, [], branch)

        predicate = Tensor(equal.name, 0)
        return self._cond(inner, predicate, others, branches[number], controls, context)

    def _cond(
        self,
        scope: str,
        predicate: Tensor,
        if_false: Branch,
        if_true: Branch,
        controls: list[Tensor],
        context: Context,
    ) -> Done:
        boolean = type_attr(tf_pb.DT_BOOL)
        pred = context.add("Identity", f"{scope}/pred_id", [predicate, *controls], T=boolean)
        pred_id = Tensor(pred.name, 0)
        switch = context.add("Switch", f"{scope}/Switch", [pred_id, pred_id], T=boolean)
        done: list[Done] = []
        branches: list[CondContext] = []
        for number, build in enumerate((if_false, if_true)):
            side = Tensor(switch.name, number)
            pivot = context.add("Identity", f"{scope}/switch_{'ft'[number]}", [side], T=boolean)
            text = self._scope(f"{scope}/cond_text")
            branches.append(CondContext(context, text, pred_id, Tensor(pivot.name, 0), number))
            done.append(build(branches[-1]))
        result = Done()
        for position, first in done[0].outputs.items():
            second = done[1].outputs[position]
            if first == second:  # the same value from outside
                result.outputs[position] = first
                continue
            ends = [
                branch.bring_in(tensor)
                for branch, tensor in zip(branches, (first, second), strict=True)
            ]
            merged = self._merge(ends, scope, context)
            self.lists.merge(merged, first, second)
            result.outputs[position] = merged
        if any(one.after for one in done):
            ends = []
            for branch, one in zip(branches, done, strict=True):
                assert branch.pivot is not None
                waits = [Tensor(one.after, -1)] if one.after else []
                end = branch.add("Identity", f"{scope}/done", [branch.pivot, *waits], T=boolean)
                ends.append(Tensor(end.name, 0))
            result.after = self._merge(ends, scope, context).node
        return result

    def _merge(self, ends: list[Tensor], scope: str, context: Context) -> Tensor:
        attrs = {"T": type_attr(self.graph.output(ends[0]).dtype), "N": int_attr(len(ends))}
        return Tensor(context.add("Merge", f"{scope}/Merge", ends, **attrs).name, 0)

    def _loop(
        self,
        node: tf_pb.NodeDef,
        scope: str,
        inputs: list[Tensor],
        controls: list[Tensor],
        wanted: Collection[int],
        context: Context,
    ) -> Done:
        condition, body = node.attr["cond"].func.name, node.attr["body"].func.name
        variables = self._loop_vars(node, wanted)
        first = variables[0]
        parallel = self.graph.attr(node, "parallel_iterations").i
        parallel = max(parallel, self._parallel_iterations)
        loop = WhileContext(context, self._scope(f"{scope}/while_context"), parallel)
        merges: dict[int, Tensor] = {}
        for position in variables:
            outside = context.bring_in(inputs[position])
            self.lists.enter(outside, scope)
            waits = list(controls)
            if context.is_invariant(outside) and context.pivot is not None:
                # Else the loop would begin once more when the one around ends.
                waits.append(Tensor(context.pivot.node, -1))
            entered = loop.enter(outside, waits, is_constant=False)
            # What the next iteration gives is put in below.
            merges[position] = self._merge([entered, entered], scope, loop)
            self.lists.same(merges[position], inputs[position])
        loop.pivot = loop.pivot_for_condition = merges[first]
        args = dict(enumerate(inputs)) | merges
        done = self._bodies.build(condition, args, {0}, loop, scope)
        predicate = self._truth(node, done.outputs[0], loop, scope)
        after = [Tensor(done.after, -1)] if done.after else []
        loop_cond = loop.add("LoopCond", f"{scope}/LoopCond", [predicate, *after])
        loop.condition = Tensor(loop_cond.name, 0)
        switches: dict[int, Tensor] = {}
        for position, merge in merges.items():
            dtype = type_attr(self.graph.output(merge).dtype)
            switch = loop.add("Switch", f"{scope}/Switch", [merge, loop.condition], T=dtype)
            switches[position] = Tensor(switch.name, 0)
            start = loop.add("Identity", f"{scope}/Identity", [Tensor(switch.name, 1)], T=dtype)
            args[position] = Tensor(start.name, 0)
            self.lists.same(args[position], merge)
        loop.pivot = args[first]
        done = self._bodies.build(body, args, variables, loop, scope)
        result = Done()
        for position, merge in merges.items():
            self.lists.check_same(done.outputs[position], merge, node.name)
            value = loop.bring_in(done.outputs[position])
            dtype = type_attr(self.graph.output(merge).dtype)
            following = loop.add("NextIteration", f"{scope}/NextIteration", [value], T=dtype)
            self.graph.nodes[merge.node].input[1] = following.name
            # Gradients need all of them, wanted or not.
            leaving = loop.leave(switches[position], f"{scope}/Exit")
            self.lists.same(leaving, merge)
            result.outputs[position] = leaving
        result.outputs |= {p: inputs[p] for p in wanted if p not in merges}
        if done.after or after:
            result.after = result.outputs[first].node
        return result

    def _loop_vars(self, node: tf_pb.NodeDef, wanted: Collection[int]) -> list[int]:
        """Returns the positions of the loop variables that are needed and may ever change."""
        condition = self._functions.get(node.attr["cond"].func.name)
        body = self._functions.get(node.attr["body"].func.name)
        count = len(body.body.outputs)
        constant = {position for position in range(count) if body.passed_on(position) == position}
        (end,) = condition.body.outputs
        found = {*wanted, *condition.needed([end[1]])[1]} - constant
        while True:
            targets = [body.body.outputs[position][1] for position in found]
            more = body.needed(targets)[1] - constant - found
            if not more:
                break
            found |= more
        if not found:
            raise UnsupportedError(
                "no loop variable of it ever changes", where=self.graph.at(node.name), hint=_HINT
            )
        return sorted(found)

    # -- names -----------------------------------------------------------------

    def _scope(self, name: str) -> str:
        """Returns a name that no node has, and no other scope."""
        scope = unique_name(name, lambda n: n in self._scopes or n in self.graph.nodes, {})
        self._scopes.add(scope)
        return scope
