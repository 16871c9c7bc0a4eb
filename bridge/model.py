"""The neutral form of a model, which readers make, passes change and writers consume.

It has the shape of a TF1 Hub module, the simpler of the two formats: graph variants that share
one set of variables and assets. No reader knows a writer.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge.graph import Graph
from bridge.ops import RESOURCE_VARIABLE
from bridge.proto import tf_pb

Shape = tuple[int | None, ...] | None
"""A static shape: None for an unknown dimension, None as a whole for an unknown rank."""

Tags = frozenset[str]

INFERENCE: Tags = frozenset()
"""Tags of the variant that a TF1 Hub client instantiates by default."""

TRAIN: Tags = frozenset({"train"})
"""Tags of the variant that a TF1 Hub client instantiates for fine-tuning."""

DEFAULT = "default"
"""The signature, and the output of a signature, that a TF1 Hub client takes by default."""


def format_tags(tags: Iterable[str]) -> str:
    """Prints a set of tags as users write it: `{}`, `{train}`, `{bs16, train}`."""
    return "{" + ", ".join(sorted(tags)) + "}"


def format_shape(shape: Shape) -> str:
    """Prints a static shape as users write it: `[?, 224, 224, 3]`, `<unknown>`."""
    if shape is None:
        return "<unknown>"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def shape_from_proto(proto: tf_pb.TensorShapeProto) -> Shape:
    """Reads a TensorShapeProto, where size -1 means unknown."""
    if proto.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in proto.dim)


def shape_to_proto(shape: Shape) -> tf_pb.TensorShapeProto:
    """Writes a static shape as a TensorShapeProto."""
    if shape is None:
        return tf_pb.TensorShapeProto(unknown_rank=True)
    proto = tf_pb.TensorShapeProto()
    for size in shape:
        proto.dim.add(size=-1 if size is None else size)
    return proto


class Encoding(enum.Enum):
    """How a signature's tensor is made of plain tensors (oneof `encoding` of TensorInfo)."""

    DENSE = "dense"
    SPARSE = "sparse"
    COMPOSITE = "composite"


@dataclass(frozen=True)
class Component:
    """One plain tensor of the graph: `name` is `node:index`."""

    name: str
    dtype: int
    shape: Shape


@dataclass(frozen=True)
class Endpoint:
    """A named input or output of a signature.

    Attributes:
      encoding: dense (one component), sparse (indices, values, dense_shape in this order), or
        composite (the components of `type_spec`, in its order).
      dtype: dtype of the values.
      shape: static shape of the whole.
      components: the plain tensors.
      type_spec: the type of a composite tensor; None otherwise.
    """

    encoding: Encoding
    dtype: int
    shape: Shape
    components: tuple[Component, ...]
    type_spec: tf_pb.TypeSpecProto | None = None

    def moved(self, moved: Callable[[str], str]) -> Endpoint:
        """Returns the same made of other tensors, whose names `moved` gives."""
        parts = tuple(replace(part, name=moved(part.name)) for part in self.components)
        return replace(self, components=parts)


@dataclass(frozen=True)
class Signature:
    """A named mapping from input tensors to output tensors."""

    name: str
    inputs: dict[str, Endpoint]
    outputs: dict[str, Endpoint]

    def input_tensors(self) -> list[str]:
        """Names of all plain input tensors, by sorted input name."""
        return [c.name for key in sorted(self.inputs) for c in self.inputs[key].components]

    def output_tensors(self) -> list[str]:
        """Names of all plain output tensors, by sorted output name."""
        return [c.name for key in sorted(self.outputs) for c in self.outputs[key].components]


@dataclass(frozen=True)
class ByteRange:
    """Where the bytes of a tensor lie in a checkpoint.

    Attributes:
      shard: index of the data shard.
      offset: first byte.
      size: number of bytes.
      crc32c: masked checksum as the index records it.
    """

    shard: int
    offset: int
    size: int
    crc32c: int


@dataclass(frozen=True)
class SaveSlice:
    """What part of a partitioned variable this variable is (SaveSliceInfoDef)."""

    full_name: str
    full_shape: tuple[int, ...]
    var_offset: tuple[int, ...]
    var_shape: tuple[int, ...]


@dataclass
class Variable:
    """A variable, shared by all variants.

    Attributes:
      name: name of its op in the graph, which is its name in TensorFlow.
      dtype: base DataType number.
      shape: fully defined static shape.
      trainable: in TRAINABLE_VARIABLES of some variant.
      data: where its value lies in the source checkpoint.
      was_ref: whether some variant held it as a reference variable.
      save_slice: set for a part of a partitioned variable.
      synchronization: VariableSynchronization number: what tf.distribute does with its copies.
      aggregation: VariableAggregation number, likewise.
      variants: the variants whose graph declares it.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    trainable: bool
    data: ByteRange
    was_ref: bool = False
    save_slice: SaveSlice | None = None
    synchronization: int = 0
    aggregation: int = 0
    variants: set[Tags] = field(default_factory=set)

    def handle(self) -> tf_pb.NodeDef:
        """Returns a node that makes it, as a resource."""
        node = tf_pb.NodeDef(name=self.name, op=RESOURCE_VARIABLE)
        node.attr["dtype"].type = self.dtype  # type: ignore[assignment]
        node.attr["shape"].shape.CopyFrom(shape_to_proto(self.shape))
        node.attr["shared_name"].s = self.name.encode()
        return node


@dataclass(frozen=True)
class Asset:
    """A file that belongs to the model.

    Attributes:
      filename: its path below `assets/`, with forward slashes.
      source: the file to copy from.
      size: bytes.
    """

    filename: str
    source: Path
    size: int


@dataclass
class Variant:
    """One graph variant: a flat graph and what its client may ask of it.

    Attributes:
      tags: its set of tags.
      graph: the nodes; a function library only for the bodies of functional control flow and the
        functions that the source's own graph calls.
      signatures: by name.
      trainable_variables: names of variables, in the order of TRAINABLE_VARIABLES.
      model_variables: likewise for MODEL_VARIABLES, the ones that inference needs.
      update_ops: for each name in UPDATE_OPS, the node that runs it: itself, until a pass moves it
        into the branch of a conditional.
      regularization_losses: names of the tensors in REGULARIZATION_LOSSES.
      undifferentiated: names of the Exit nodes of while loops with `back_prop=False`.
      table_initializers: names of the nodes in TABLE_INITIALIZERS.
      assets: asset file by the name of the Const node that holds its path.
      attachments: message bytes by key.
      cond_contexts: the outermost v1 conditionals, as LowerControlFlow makes them.
      while_contexts: the outermost v1 loops, likewise.
    """

    tags: Tags
    graph: Graph
    signatures: dict[str, Signature] = field(default_factory=dict)
    trainable_variables: list[str] = field(default_factory=list)
    model_variables: list[str] = field(default_factory=list)
    update_ops: dict[str, str] = field(default_factory=dict)
    regularization_losses: list[str] = field(default_factory=list)
    undifferentiated: set[str] = field(default_factory=set)
    table_initializers: list[str] = field(default_factory=list)
    assets: dict[str, str] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict)
    cond_contexts: list[tf_pb.CondContextDef] = field(default_factory=list)
    while_contexts: list[tf_pb.WhileContextDef] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The tags as messages print them."""
        return format_tags(self.tags)

    def retarget(self, moved: Callable[[str], str]) -> None:
        """Lets signatures return, and losses be, other tensors.

        Args:
          moved: for the name of a tensor, the name of what takes its place.
        """
        self.signatures = {
            name: replace(
                signature,
                outputs={key: end.moved(moved) for key, end in signature.outputs.items()},
            )
            for name, signature in self.signatures.items()
        }
        self.regularization_losses = [moved(name) for name in self.regularization_losses]


@dataclass
class Model:
    """A whole model.

    Attributes:
      source: the directory it was read from.
      variants: by their set of tags, in the order of the source.
      variables: by name, sorted.
      assets: by file name.
      shards: the data shards of the source checkpoint, by index.
      versions: versions of the graphs' producer.
      producer: the TensorFlow release that wrote the source, as it says.
      was_module: whether the source was made from a TF1 Hub module, whose names it keeps.
    """

    source: Path
    variants: dict[Tags, Variant]
    variables: dict[str, Variable]
    assets: dict[str, Asset]
    shards: list[Path]
    versions: tf_pb.VersionDef
    producer: str
    was_module: bool = False
