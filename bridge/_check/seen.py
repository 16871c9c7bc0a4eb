"""What a check looks at: a model of either format in the terms of a TF1 Hub module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bridge._check.flow import Flow, Point
from bridge._check.results import Breach
from bridge.model import DEFAULT, Encoding, Endpoint, Shape, Tags, format_tags
from bridge.passes.image_conventions import IMAGES, TASKS
from bridge.proto import tf_pb

CHANNELS = 3
"""Red, green and blue."""

Digests = Mapping[str, tuple[bytes, ...]]
"""What the components of each output are computed by, by the name of the output."""


@dataclass(frozen=True)
class SeenVariable:
    """A variable.

    Attributes:
      name: its name.
      shape: its static shape.
    """

    name: str
    shape: Shape


@dataclass(frozen=True)
class PythonCall:
    """How users call a signature of a SavedModel on the loaded object.

    Attributes:
      takes: name of the input that is the first positional argument; None where that is no tensor.
      gives_tensor: whether it returns one tensor, in no list or dictionary.
    """

    takes: str | None
    gives_tensor: bool


@dataclass(frozen=True)
class SeenSignature:
    """A signature of a variant.

    Attributes:
      tags: of the variant.
      name: its name.
      called: how a SavedModel's user calls it; None in a module.
      python: the Python call, where a SavedModel offers one.
      inputs: by name.
      outputs: by name.
      flow: the graph.
      returned: the tensors of each output.
      state: the variables, by the node or argument of the flow's root that is one.
      digests: finds out by what each output is computed.
    """

    tags: Tags
    name: str
    called: str | None
    python: PythonCall | None
    inputs: Mapping[str, Endpoint]
    outputs: Mapping[str, Endpoint]
    flow: Flow
    returned: Mapping[str, Sequence[Point]]
    state: Mapping[str, SeenVariable]
    digests: Callable[[], Digests]

    @property
    def main_output(self) -> str | None:
        """The output `default`, else the only one; None where there are several others."""
        if DEFAULT in self.outputs:
            return DEFAULT
        return next(iter(self.outputs)) if len(self.outputs) == 1 else None

    @property
    def image_inputs(self) -> list[str]:
        """The inputs that take images, by name or by shape."""
        if self.name in TASKS and len(self.inputs) == 1:
            return list(self.inputs)
        found = [n for n, end in self.inputs.items() if n == IMAGES or looks_like_images(end)]
        if found or self.name not in TASKS:
            return found
        # A task is one of images, however they look.
        return [
            n for n, end in self.inputs.items() if end.shape is not None and len(end.shape) == 4
        ]

    @property
    def images(self) -> str | None:
        """The one image input, or the principal one of several."""
        found = self.image_inputs
        if IMAGES in found:
            return IMAGES
        return found[0] if len(found) == 1 else None

    def breach(
        self, found: str, mend: str, *, name: str | None = None, node: str | None = None
    ) -> Breach:
        """Returns a breach that has this signature as its place."""
        return Breach(found, mend, format_tags(self.tags), self.name, self.called, name, node)


@dataclass
class SeenVariant:
    """A variant.

    Attributes:
      tags: its tags.
      signatures: in the order of their names.
      attachments: message bytes by key.
      trainable: names of its trainable variables.
      written: names of the variables that its update ops or outputs write, or its call in training.
    """

    tags: Tags
    signatures: list[SeenSignature] = field(default_factory=list)
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    trainable: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """The tags as messages print them."""
        return format_tags(self.tags)

    def named(self, name: str) -> SeenSignature | None:
        """Returns a signature."""
        return next((s for s in self.signatures if s.name == name), None)

    def breach(self, found: str, mend: str, *, name: str | None = None) -> Breach:
        """Returns a breach that has this variant as its place."""
        return Breach(found, mend, self.label, name=name)


@dataclass
class SeenModel:
    """A model.

    Attributes:
      format: `TF1 Hub module` or `TF2 SavedModel`.
      is_module: whether it is the former.
      producer: the TensorFlow release that wrote it, as it says.
      variants: those of inference first.
      variables: names of all variables.
      reuse: what keeps a SavedModel's objects from being reused; None where it has no `__call__`.
      remarks: what could not be judged.
    """

    format: str
    is_module: bool
    producer: str
    variants: list[SeenVariant]
    variables: frozenset[str]
    reuse: list[Breach] | None = None
    remarks: list[str] = field(default_factory=list)

    def variant(self, tags: Tags) -> SeenVariant | None:
        """Returns the variant of these tags."""
        return next((v for v in self.variants if v.tags == tags), None)

    def signatures(self) -> list[SeenSignature]:
        """Returns those of all variants."""
        return [s for variant in self.variants for s in variant.signatures]

    def image_signatures(self) -> list[SeenSignature]:
        """Returns those that take images."""
        return [s for s in self.signatures() if s.image_inputs]


_NO_PIXELS = frozenset({tf_pb.DT_BOOL, tf_pb.DT_STRING, tf_pb.DT_RESOURCE, tf_pb.DT_VARIANT})


def looks_like_images(endpoint: Endpoint) -> bool:
    """True for a dense tensor of four dimensions with three channels, last or first."""
    shape = endpoint.shape
    if endpoint.encoding is not Encoding.DENSE or endpoint.dtype in _NO_PIXELS:
        return False
    return shape is not None and len(shape) == 4 and CHANNELS in (shape[1], shape[3])
