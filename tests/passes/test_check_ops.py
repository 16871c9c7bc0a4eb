"""Ops that reach outside the model are refused, and no op is let through unseen."""

from __future__ import annotations

import pytest

from bridge.errors import UnsafeError, UnsupportedError
from bridge.graph import Graph
from bridge.model import INFERENCE, Variant
from bridge.opsets import CURRENT, OpTable, load_opset
from bridge.opsets.safety import CHECKED, SAFE, UNSAFE, danger, is_suspicious, load_safety
from bridge.passes import check_ops
from bridge.passes.check_ops import CheckOps
from bridge.proto import tf_pb
from bridge.report import Report

OPS = load_opset(CURRENT)

REACH_OUTSIDE = """
ReadFile WriteFile SaveV2 RestoreV2 CacheDatasetV2 PyFunc PyFuncStateless EagerPyFunc
DatasetToTFRecord CalibrationStatisticsSaver DumpTensor DistributedSave DTensorRestoreV2
ExperimentalDatasetToTFRecord CSVDatasetV2 ExperimentalLMDBDataset ExperimentalSqlDataset
ExperimentalMatchingFilesDataset ListSnapshotChunksDataset SnapshotChunkDataset
SnapshotDatasetReader SnapshotNestedDatasetReader Skipgram RecordInput RemoteCall RpcCall
FileSystemSetConfiguration DebugNanCount DebugNumericSummary DebugNumericSummaryV2 Copy CopyHost
DataServiceDatasetV4 RegisterDatasetV2 Send Recv _Send _Recv CollectiveReduceV2 XlaCustomCallV2
XlaHostCompute XlaCallModule DatasetFromGraph DeserializeIterator Abort GetSessionTensor Stage
"""

HARMLESS = """
VariableV2 VarHandleOp ReadVariableOp AssignVariableOp AssignSubVariableOp Assign ResourceGather
HashTable HashTableV2 LookupTableFind LookupTableFindV2 InitializeTableV2 RandomUniform
RandomStandardNormal TruncatedNormal Multinomial StatelessRandomUniform RandomShuffle While If
PartitionedCall StatefulPartitionedCall SymbolicGradient TensorArrayV3 TensorArrayReadV3 Assert
Print ScalarSummary HistogramSummary Placeholder CTCBeamSearchDecoder CTCLoss DecodeJpeg
NonMaxSuppressionV3 DecodePng DecodeRaw DecodeWav IRFFT Mfcc StringSplit StringToHashBucketFast
RegexReplace AsString StringJoin Switch Merge Enter FusedBatchNormV3 Conv2D CudnnRNN
ParseExample CheckNumerics Einsum QuantizeV2 LSTMBlockCell TPUReplicateMetadata
"""


def run(*nodes: tf_pb.NodeDef, allowed: frozenset[str] = frozenset()) -> None:
    variant = Variant(INFERENCE, Graph(nodes, OpTable()))
    CheckOps(allowed).rewrite(variant, Report("", None, "to-saved-model"))


def test_every_suspicious_op_of_the_release_is_classified() -> None:
    suspicious = {name for name, op in OPS.items() if name[0] != "_" and is_suspicious(op)}
    assert sorted(suspicious - set(load_safety())) == []


def test_only_ops_of_the_release_are_classified() -> None:
    assert sorted(set(load_safety()) - set(OPS)) == []
    headings = {heading for heading in load_safety().values() if not heading.startswith(UNSAFE)}
    assert headings == {SAFE, CHECKED}


def test_every_checked_op_is_checked() -> None:
    checked = {name for name, heading in load_safety().items() if heading == CHECKED}
    assert checked == {*check_ops._SAFE_TEXT, *check_ops.TABLE_FROM_FILE}


@pytest.mark.parametrize("op", REACH_OUTSIDE.split())
def test_what_reaches_outside_is_unsafe(op: str) -> None:
    assert danger(OPS[op])


@pytest.mark.parametrize("op", HARMLESS.split())
def test_what_modules_are_made_of_is_safe(op: str) -> None:
    assert danger(OPS[op]) is None


def test_an_op_that_nobody_classified_is_unsafe_if_it_might_do_more_than_compute() -> None:
    new = tf_pb.OpDef(name="FetchEverything")
    assert danger(new) is None
    new.input_arg.add(name="x", type=tf_pb.DT_STRING)
    assert "nobody has looked at it" in str(danger(new))
    assert danger(tf_pb.OpDef(name="FetchEverything", is_stateful=True))
    for name in ("vocab_file", "host_address", "target_device"):
        named = tf_pb.OpDef(name="FetchEverything")
        named.attr.add(name=name, type="int")
        assert danger(named), name


@pytest.mark.parametrize(
    ("op", "attr", "value", "is_safe"),
    [
        ("PrintV2", "output_stream", None, True),
        ("PrintV2", "output_stream", b"stdout", True),
        ("PrintV2", "output_stream", b"log(warning)", True),
        ("PrintV2", "output_stream", b"file:///tmp/x", False),
        ("PrintV2", "output_stream", b"stdout\n", False),
        ("FixedUnigramCandidateSampler", "vocab_file", None, True),
        ("FixedUnigramCandidateSampler", "vocab_file", b"/etc/passwd", False),
        ("DecodeProtoV2", "descriptor_source", None, True),
        ("DecodeProtoV2", "descriptor_source", b"bytes://\n\0", True),
        ("EncodeProto", "descriptor_source", b"local://", True),
        ("EncodeProto", "descriptor_source", b"descriptors.pb", False),
    ],
)
def test_some_ops_are_safe_by_an_attribute(
    op: str, attr: str, value: bytes | None, is_safe: bool
) -> None:
    node = tf_pb.NodeDef(name="n", op=op)
    if value is not None:
        node.attr[attr].s = value
    if is_safe:
        run(node)
        return
    with pytest.raises(UnsafeError, match=attr) as caught:
        run(node)
    assert f"--allow-op {op}" in str(caught.value.hint)
    run(node, allowed=frozenset({op}))


def test_what_is_unsafe_about_an_op_is_said() -> None:
    with pytest.raises(UnsafeError, match="ReadFile reads or writes files") as caught:
        run(tf_pb.NodeDef(name="n", op="ReadFile"))
    assert "--allow-op ReadFile" in str(caught.value.hint)
    run(tf_pb.NodeDef(name="n", op="ReadFile"), allowed=frozenset({"ReadFile"}))


def test_every_node_of_an_op_is_looked_at() -> None:
    printed, written = (tf_pb.NodeDef(name=name, op="PrintV2") for name in ("a", "b"))
    written.attr["output_stream"].s = b"file:///tmp/x"
    with pytest.raises(UnsafeError) as caught:
        run(printed, written)
    assert caught.value.where.node == "b"
    plain, odd = (tf_pb.NodeDef(name=name, op="NoOp") for name in ("a", "b"))
    odd.attr["invented"].b = True
    with pytest.raises(UnsupportedError, match="invented") as unknown:
        run(plain, odd)
    assert unknown.value.where.node == "b"
