"""A tiny image model, made of protos."""

from __future__ import annotations

from bridge.attrs import ints_tensor_attr, type_attr
from bridge.model import Shape
from bridge.proto import tf_pb
from bridge.saved_model.structured_value import mapping
from tests.saved_model.handmade import FLOAT, Handmade, function, op, spec


def image_model(shape: Shape = (None, 8, 8, 3), name: str = "picture") -> Handmade:
    """Its `__call__` gives the softmax of the mean of each channel, and so does a signature."""
    axes = tf_pb.NodeDef(name="axes", op="Const")
    axes.attr["dtype"].CopyFrom(type_attr(tf_pb.DT_INT32))
    axes.attr["value"].CopyFrom(ints_tensor_attr(tf_pb.DT_INT32, [1, 2]))
    nodes = [
        axes,
        op("mean", "Mean", name, "axes:output:0", T=FLOAT, Tidx=tf_pb.DT_INT32),
        op("y", "Softmax", "mean:output:0", T=FLOAT),
    ]
    model = Handmade()
    images, scores = spec(name, FLOAT, shape), spec("y", FLOAT, (None, 3))
    made = [function(f, nodes, {"y": "y:softmax:0"}, {name: FLOAT}) for f in ("call", "serve")]
    model.method("__call__", [model.trace(made[0], [images], output=scores)], [name])
    output = mapping({"scores": scores})
    served = model.trace(made[1], keywords={name: images}, output=output)
    model.signature("serving_default", served, [name])
    return model
