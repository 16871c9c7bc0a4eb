"""Whatever is done to a SavedModel's messages: it is converted or refused, nothing else."""

from __future__ import annotations

import base64
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

import bridge
from bridge.proto import record_pb, tf_pb
from bridge.saved_model.record import RECORD
from tests.conftest import TESTDATA

MODULES = (
    "assets_many",
    "control_flow_resource",
    "partitioned",
    "ragged_input",
    "rnn",
    "sparse_input",
    "text_vocab",
)
ROUNDS = 25
NUMBERS = (0, 1, -1, 2, 3, 7, 20, 101, (1 << 31) - 1, -(1 << 31))


def messages(message: Message) -> Iterator[Message]:
    """Yields a message and all that are in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if hasattr(value, "keys"):  # a map
            values = list(value.values())
        else:
            values = [value] if isinstance(value, Message) else list(value)
        for inner in values:
            if isinstance(inner, Message):
                yield from messages(inner)


class Mutator:
    """Changes a message at random, in ways that protobuf still reads."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.all: list[Message] = []
        self.texts: list[str] = []

    def change(self, message: Message) -> None:
        """Changes one field of one of the messages in a message."""
        self.all = list(messages(message))
        self.texts = [
            value
            for one in self.random.choices(self.all, k=100)
            for _, value in one.ListFields()
            if isinstance(value, str)
        ] or ["x"]
        target = self.random.choice(self.all)
        fields = [field for field, _ in target.ListFields()]
        if self.random.random() < 0.1 or not fields:
            fields = list(target.DESCRIPTOR.fields)
        if fields:
            field = self.random.choice(fields)
            value = getattr(target, field.name)
            if hasattr(value, "keys"):
                self.change_map(value)
            elif hasattr(value, "append"):
                self.change_list(value)
            elif field.message_type is not None:
                self.change_message(target, field)
            else:
                setattr(target, field.name, self.scalar(value))

    def scalar(self, value: Any) -> Any:
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            # No field is left that would not take 0 or a number nearby.
            return self.random.choice([0, 1, abs(value - 1), value + 1, *NUMBERS[3:7]])
        if isinstance(value, float):
            return self.random.choice([0.0, -value, float("nan"), float("inf")])
        if isinstance(value, str):
            return self.random.choice(
                ["", value + "x", value[:-1], *self.random.choices(self.texts)]
            )
        return self.random.choice([b"", value + b"x", value[1:]])

    def change_map(self, values: Any) -> None:
        if not values:
            return
        one, other = (self.random.choice(sorted(values)) for _ in range(2))
        if isinstance(values[one], Message):
            copy = type(values[one])()
            copy.CopyFrom(values[one])
            if self.random.random() < 0.5:
                del values[one]
            new = one + 1 if isinstance(one, int) else f"{one}x"
            values[other if self.random.random() < 0.5 else new].CopyFrom(copy)
        elif self.random.random() < 0.5:
            values[one] = values[other]
        else:
            del values[one]

    def change_list(self, values: Any) -> None:
        if not values:
            if hasattr(values, "add"):
                values.add()
            return
        one, other = (self.random.randrange(len(values)) for _ in range(2))
        kind = self.random.randrange(3)
        if kind == 0:
            del values[one]
        elif isinstance(values[one], Message):
            copy = type(values[one])()
            copy.CopyFrom(values[one])
            (values[other] if kind == 1 else values.add()).CopyFrom(copy)
        elif kind == 1:
            values[one] = values[other]
        else:
            values[one] = self.scalar(values[one])

    def change_message(self, target: Message, field: Any) -> None:
        same = [one for one in self.all if one.DESCRIPTOR is field.message_type]
        if not same or self.random.random() < 0.4:
            target.ClearField(field.name)
        else:
            copy = type(same[0])()
            copy.CopyFrom(self.random.choice(same))
            getattr(target, field.name).CopyFrom(copy)


def change_record(mutator: Mutator, meta_graph: tf_pb.MetaGraphDef) -> None:
    values = meta_graph.collection_def[RECORD].bytes_list.value
    chosen = mutator.random.randrange(len(values))
    record = record_pb.VariantRecord.FromString(base64.b64decode(values[chosen]))
    mutator.change(mutator.random.choice([record, record.meta_graph.graph_def]))
    values[chosen] = base64.b64encode(record.SerializeToString())


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "objects"])
@pytest.mark.parametrize("module", MODULES)
def test_a_changed_saved_model_is_converted_or_refused(
    module: str, recorded: bool, tmp_path: Path
) -> None:
    mutator = Mutator(seed=2 * MODULES.index(module) + recorded)
    source, dest = tmp_path / "model", tmp_path / "out"
    bridge.to_saved_model(TESTDATA / "modules" / module, source)
    path = source / "saved_model.pb"
    original = tf_pb.SavedModel.FromString(path.read_bytes())
    if not recorded:
        del original.meta_graphs[0].collection_def[RECORD]
    exit_codes = set()
    for _ in range(ROUNDS):
        proto = tf_pb.SavedModel()
        proto.CopyFrom(original)
        (meta_graph,) = proto.meta_graphs
        for _ in range(mutator.random.randint(1, 3)):
            if recorded and mutator.random.random() < 0.7:
                change_record(mutator, meta_graph)
            else:
                graphs = [meta_graph.object_graph_def, meta_graph.graph_def.library, meta_graph]
                mutator.change(mutator.random.choices(graphs, [3, 3, 1])[0])
        path.write_bytes(proto.SerializeToString())
        try:
            bridge.to_hub_module(source, dest)
            shutil.rmtree(dest)
            exit_codes.add(0)
        except bridge.HubBridgeError as error:
            exit_codes.add(error.exit_code)
        assert [file.name for file in tmp_path.iterdir()] == ["model"]
    # Not all changes are harmless, and none is a usage or internal error.
    assert exit_codes in ({0, 4}, {0, 3, 4})
