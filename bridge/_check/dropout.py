"""IMG05: no dropout acts on feature vectors themselves."""

from __future__ import annotations

from collections.abc import Iterable

from bridge._check.flow import Flow, Point
from bridge._check.random_ops import is_random
from bridge._check.results import Breach
from bridge._check.rule import Judgement, feature_signatures, judged, not_applicable, where
from bridge._check.seen import SeenModel, SeenSignature
from bridge.model import Shape, shape_from_proto
from bridge.proto import tf_pb

_ALONE = frozenset(
    {
        *("Abs", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BroadcastTo", "Cast", "Ceil"),
        *("CheckNumerics", "ClipByValue", "Cos", "Cosh", "DeepCopy", "DepthToSpace", "Elu"),
        *("EnsureShape", "Enter", "Erf", "Erfc", "Erfinv", "Exit", "Exp", "ExpandDims", "Expm1"),
        *("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
        *("FakeQuantWithMinMaxVarsPerChannel", "Floor", "Gather", "GatherNd", "GatherV2"),
        *("Identity", "Inv", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "Lgamma", "Log", "Log1p"),
        *("LogicalNot", "MirrorPad", "Ndtri", "Neg", "NextIteration", "Pad", "PadV2"),
        *("PlaceholderWithDefault", "PreventGradient", "QuantizeAndDequantizeV2"),
        *("QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4", "Reciprocal", "Relu", "Relu6"),
        *("Reshape", "Reverse", "ReverseV2", "Rint", "Roll", "Round", "Rsqrt", "Selu", "Sigmoid"),
        *("Sign", "Sin", "Sinh", "Slice", "Snapshot", "Softplus", "Softsign", "SpaceToDepth"),
        *("Split", "SplitV", "Sqrt", "Square", "Squeeze", "StopGradient", "StridedSlice", "Switch"),
        *("Tan", "Tanh", "Tile", "Transpose", "Unpack"),
    }
)
"""Ops that change each value of a tensor for itself, or put the values elsewhere."""

_TOGETHER = frozenset(
    {
        *("Add", "AddN", "AddV2", "Atan2", "BiasAdd", "BitwiseAnd", "BitwiseOr", "Concat"),
        *("ConcatV2", "Div", "DivNoNan", "Equal", "FloorDiv", "FloorMod", "Greater"),
        *("GreaterEqual", "IdentityN", "Less", "LessEqual", "LogicalAnd", "LogicalOr", "Maximum"),
        *("Merge", "Minimum", "Mod", "Mul", "MulNoNan", "NotEqual", "Pack", "Pow", "RealDiv"),
        *("Select", "SelectV2", "SquaredDifference", "Sub", "TruncateDiv", "Xdivy", "Xlogy"),
    }
)
"""Ops that make each value of one value of each of their inputs."""

_SCALING = frozenset({"Div", "Mul", "RealDiv"})
"""Ops by which weights act on each value; whatever is added, dropped values stay the same ones."""

_INDEXED = {"Split": 1}
"""Which input the values are, where it is not the first."""


def features_are_not_dropped(model: SeenModel) -> Judgement:
    """IMG05: no random op acts between the output and the last weights."""
    signatures = feature_signatures(model)
    if not signatures:
        return not_applicable("no signature gives feature vectors")
    breaches = [breach for signature in signatures for breach in _breaches(signature)]
    return judged(where(signatures), breaches)


def _breaches(signature: SeenSignature) -> Iterable[Breach]:
    main = signature.main_output
    if main is None:
        return
    walk = _Walk(signature)
    for point in walk.random_ops(signature.returned[main]):
        yield signature.breach(
            f"{point.place} acts on the output itself, like a dropout",
            "leave it out: users of feature vectors add a dropout where they want one",
            name=main,
            node=point.node.name,
        )


class _Walk:
    """Looks at what makes an output, back to the last weights."""

    def __init__(self, signature: SeenSignature):
        self._flow: Flow = signature.flow
        self._state = signature.state
        self._weights: dict[Point, bool] = {}

    def random_ops(self, outputs: Iterable[Point]) -> list[Point]:
        """Returns the random ops that act on outputs themselves."""
        found = self._flow.walk(outputs, self._follow)
        random = [p for p in found if is_random(p.frame.graph, p.node)]
        unique = {(point.frame.function, point.node.name): point for point in random}
        return list(unique.values())

    def _follow(self, point: Point) -> list[Point]:
        flow, node = self._flow, point.node
        if flow.is_transparent(point):
            return flow.sources(point)
        if is_random(point.frame.graph, node):
            return []
        if node.op in _ALONE:
            first = _INDEXED.get(node.op, 0)
            return flow.sources(point)[first : first + 1]
        if node.op not in _TOGETHER:
            return []
        sources = flow.sources(point)
        if node.op in _SCALING and any(self._is_weight(source) for source in sources):
            return []  # here are the last weights
        return sources

    def _is_weight(self, point: Point) -> bool:
        """True for what is made of variables or constants of several values, and of no input."""
        if point not in self._weights:
            self._weights[point] = self._find_weight(point)
        return self._weights[point]

    def _find_weight(self, point: Point) -> bool:
        flow = self._flow
        seen: set[Point] = set()
        stack = [point]
        weight = False
        while stack:
            point = stack.pop()
            if point in seen:
                continue
            seen.add(point)
            if flow.is_fed(point) or is_random(point.frame.graph, point.node):
                return False
            variable = self._state.get(point.tensor.node) if point.frame is flow.root else None
            if variable is not None:
                weight = weight or not _is_one(variable.shape)
                continue
            weight = weight or _is_list(point.node)
            stack += flow.sources(point)
        return weight


def _is_list(node: tf_pb.NodeDef) -> bool:
    """True for a constant of several values."""
    shape = shape_from_proto(node.attr["value"].tensor.tensor_shape)
    return node.op == "Const" and not _is_one(shape)


def _is_one(shape: Shape) -> bool:
    """True for the shape of a single value, which acts on all alike."""
    return shape is not None and all(size == 1 for size in shape)
