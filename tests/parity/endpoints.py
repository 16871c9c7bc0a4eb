"""Signatures that are nothing but their inputs, and what is made to feed them."""

from __future__ import annotations

from bridge._parity.feed.inputs import batches
from bridge._parity.options import ParityOptions
from bridge._surfaces.surface import Computation, Pair
from bridge.model import Encoding, Endpoint
from bridge.proto import tf_pb

IMAGES = (None, 32, 48, 3)


def dense(dtype, shape) -> Endpoint:
    return Endpoint(Encoding.DENSE, dtype, shape, ())


def sparse(dtype, shape) -> Endpoint:
    return Endpoint(Encoding.SPARSE, dtype, shape, ())


def ragged(dtype, shape, rank=1, splits=tf_pb.DT_INT64) -> Endpoint:
    spec = tf_pb.TypeSpecProto(type_spec_class=tf_pb.TypeSpecProto.RAGGED_TENSOR_SPEC)
    state = spec.type_state.tuple_value.values
    state.add().tensor_shape_value.unknown_rank = True
    state.add().tensor_dtype_value = dtype
    state.add().int64_value = rank
    state.add().tensor_dtype_value = splits
    return Endpoint(Encoding.COMPOSITE, dtype, shape, (), spec)


def pair(signature="default", variant=frozenset(), **inputs) -> Pair:
    one = Computation(variant, signature, inputs, {}, ())
    return Pair(one, one, {name: name for name in inputs}, {})


def image_pair(shape=IMAGES, **others) -> Pair:
    return pair(images=dense(tf_pb.DT_FLOAT, shape), **others)


def sets(of: Pair, options=None, size=None, keys=()):
    """The batches of each set, by its name."""
    result = {}
    for batch in batches(of, options or ParityOptions(), size, keys):
        made = result.setdefault(batch.name, [])
        assert batch.index == len(made)
        made.append(batch)
    return result
