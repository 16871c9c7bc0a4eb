"""Everything that a user of a model can see, read from its files alone.

Both formats are brought to the terms of a TF1 Hub module: variants, signatures, variables. What a
SavedModel offers is read from its objects and signatures, as tf.saved_model.load would. The record
that hubbridge leaves in its own output is not looked at, so that a fault of the converter shows;
but for what a module made of it has by the record alone: which variables each variant trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.model import Endpoint, Shape, Tags

HUB_MODULE = "TF1 Hub module"
SAVED_MODEL = "TF2 SavedModel"

MAX_TABLE_KEYS = 256
"""How many keys of a model's tables are read, for inputs that its tables know."""


@dataclass(frozen=True)
class Call:
    """One way to compute a signature. It travels to a runner as JSON.

    Attributes:
      kind: `module` (a variant's signature), `callable` (a Python call on the loaded object) or
        `signature` (a serving signature).
      name: the module's or the serving signature, or the callable's attribute path: `__call__`,
        `named`, `bs16_train.__call__`; a dot within a step has a backslash before it.
      tags: of the variant, for a module.
      args: positional arguments as a template: a leaf is `{"input": NAME}`, a constant is
        `{"value": X}` or `{"dtype": NUMBER}`, structures are lists, `{"dict": {...}}`,
        `{"tuple": [...]}` and `{"named_tuple": NAME, "fields": [[FIELD, ...], ...]}`; a signature
        that takes the parts of a sparse or ragged tensor has leaves such as
        `{"input": "x|indices"}`.
      kwargs: keyword arguments, likewise.
      implied: keyword arguments that are not given, for the callable has them by default.
      outputs: for each output of the signature, the path to it in what the call returns: keys and
        positions; empty for the returned tensor itself.
    """

    kind: str
    name: str
    tags: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How reports name it: `__call__(training=False)`, `signatures['serving_default']`."""
        constants = ", ".join(
            f"{key}={value['value']!r}" for key, value in self.kwargs.items() if "value" in value
        )
        if self.kind == "callable":
            return f"{self.name}({constants})" if constants else self.name
        return f"signatures[{self.name!r}]" if self.kind == "signature" else self.name


@dataclass(frozen=True)
class Updates:
    """What one way to compute a signature does to variables, by their names.

    Attributes:
      call: the way.
      trains: whether it is given a true `training`; a module has no such argument.
      written: those that it changes; in a module, also what the update ops write that the inputs
        of the signature feed.
      forward: of those, the ones that are changed wherever outputs are computed: all in a
        SavedModel, whose calls run what they run.
      others: of those, the ones whose change is computed along with the outputs of another
        signature of the module, more than with those of this one.
    """

    call: Call
    trains: bool
    written: frozenset[str]
    forward: frozenset[str]
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Computation:
    """A signature of a variant, and the ways to compute it.

    Attributes:
      variant: tags.
      signature: name.
      inputs: by name; the components of an endpoint have no meaning for a SavedModel.
      outputs: by name, the union of what the ways return.
      calls: the ways, the main one first.
      same_as: variant and signature of another computation of this model, of which this one is the
        same by its graph, so that a model without this one has lost nothing.
      forms: further ways, which need not be run: they take the same in another form, and run the
        graph of one of `calls`.
      updates: what each of all the ways does to variables.
      is_kept: whether a module has it that a SavedModel is converted to. It does not where nothing
        but functions of a SavedModel stand for it, which nothing serves.
    """

    variant: Tags
    signature: str
    inputs: Mapping[str, Endpoint]
    outputs: Mapping[str, Endpoint]
    calls: tuple[Call, ...]
    same_as: tuple[Tags, str] | None = None
    forms: tuple[Call, ...] = ()
    updates: tuple[Updates, ...] = ()
    is_kept: bool = True


@dataclass(frozen=True)
class SeenVariable:
    """A variable as a user sees it.

    Attributes:
      name: its name, without `:0`.
      dtype: base DataType number.
      shape: static shape.
      trainable: whether training moves it.
      digest: SHA-256 of its bytes, in hexadecimal.
      number: of its object in a SavedModel, where several variables may call themselves alike;
        None in a module.
    """

    name: str
    dtype: int
    shape: Shape
    trainable: bool
    digest: str
    number: int | None = None


@dataclass(frozen=True)
class SeenList:
    """A list of variables that an object of a SavedModel has, as hub.KerasLayer reads it.

    Attributes:
      path: the attributes that lead to it: `variables`, `big.trainable_variables`.
      kind: the last of them.
      variant: the one whose subobject has it; None for the root, which has those of all.
      members: names of the variables in it; None where the object has no such list.
      held: names of the variables that other attributes of the object lead to, and no such list.
    """

    path: str
    kind: str
    variant: Tags | None
    members: frozenset[str] | None
    held: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SeenTable:
    """A lookup table, as it is when the model has been loaded.

    Attributes:
      name: of its node in a module; of a SavedModel, the attributes that lead to it.
      digest: SHA-256 of its keys and values, in hexadecimal.
      keys: some of its keys, strings as bytes.
      reason: why its content is not known, so that no other table is known to be the same; else
        empty.
    """

    name: str
    digest: str
    keys: tuple[bytes | int, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Served:
    """What servers get of one signature of a SavedModel, or of what fills its tables.

    Attributes:
      fault: how it is not what its objects give; empty where it is.
      unknown: why that can't be told; else empty.
    """

    fault: str = ""
    unknown: str = ""


@dataclass(frozen=True)
class Surface:
    """All of it.

    Attributes:
      path: the directory.
      format: HUB_MODULE or SAVED_MODEL.
      producer: the TensorFlow release that wrote it, as it says.
      computations: every signature of every variant.
      variables: by name.
      regularization_losses: how many there are, by variant; a SavedModel has those of the root
        for all its variants.
      updated: names of the variables that a call changes, by variant: what update ops write in a
        module, what the training trace writes in a SavedModel.
      assets: SHA-256 of each asset file, by name.
      tables: the tables of different content that the computations use, by name.
      attachments: message bytes, by variant and key.
      image_size: height and width that images are expected to have; None where it says nothing.
      updated_apart: of those, the ones that update ops of a module write which depend on the
        inputs of no signature, so that no call of a SavedModel can run them.
      random_states: names of the variables that only hold the state of random ops. A module has
        none: its random ops draw anew in each run.
      declared: names of the variables that each variant of a module has.
      trained: names of those that each variant trains; of a SavedModel that was a module, as it
        records that, for it has one flag for all.
      lists: the lists of variables of a SavedModel, of its root and each subobject that is a
        variant, there or not. Empty where no object is made to be trained by its lists.
      served: what servers get of a SavedModel's signatures, by name, and under INIT_OP of what
        fills its tables.
      was_module: whether a SavedModel says of what module it was made.
      further: what a SavedModel offers besides, named as a call of it. A module has none.
      absent_forms: by the paths of callables of a SavedModel that take what those of a converted
        module take, the forms in which they can't be called.
      table_keys: keys that its tables are known to hold, strings as bytes; at most
        MAX_TABLE_KEYS of them.
    """

    path: Path
    format: str
    producer: str
    computations: tuple[Computation, ...]
    variables: Mapping[str, SeenVariable]
    regularization_losses: Mapping[Tags, int]
    updated: Mapping[Tags, frozenset[str]]
    assets: Mapping[str, str]
    tables: Mapping[str, SeenTable]
    attachments: Mapping[Tags, Mapping[str, bytes]]
    image_size: tuple[int, int] | None
    updated_apart: Mapping[Tags, frozenset[str]] = field(default_factory=dict)
    random_states: frozenset[str] = frozenset()
    declared: Mapping[Tags, frozenset[str]] = field(default_factory=dict)
    trained: Mapping[Tags, frozenset[str]] = field(default_factory=dict)
    lists: tuple[SeenList, ...] = ()
    served: Mapping[str, Served] = field(default_factory=dict)
    was_module: bool = False
    further: tuple[Computation, ...] = ()
    absent_forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    table_keys: tuple[bytes | int, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A signature that both sides have.

    Attributes:
      reference: as the reference has it.
      candidate: as the candidate has it.
      inputs: the candidate's name for each input of the reference.
      outputs: the candidate's name for each output of the reference.
    """

    reference: Computation
    candidate: Computation
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
