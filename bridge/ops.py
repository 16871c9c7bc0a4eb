"""Names of ops that several modules must know, by what the ops are.

The ops themselves are defined in tensorflow/core/ops: state_ops.cc and resource_variable_ops.cc
for variables, lookup_ops.cc for tables, array_ops.cc for placeholders and control_flow_ops.cc.
"""

from __future__ import annotations

REFERENCE_VARIABLES = frozenset({"VariableV2", "Variable"})
"""Variables whose output is a reference."""

RESOURCE_VARIABLE = "VarHandleOp"
"""A variable whose output is a resource handle."""

REFERENCE_TABLES = frozenset({"HashTable"})
"""Static lookup tables whose output is a reference."""

RESOURCE_TABLE = "HashTableV2"
"""A static lookup table whose output is a resource handle."""

TABLE_FROM_FILE = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
"""Ops that fill a table from the file that their second input names."""

PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})
"""Inputs that must be fed."""

PLACEHOLDERS_WITH_DEFAULT = PLACEHOLDERS | {"PlaceholderWithDefault"}
"""Inputs, whether they must be fed or may be."""

MERGES = frozenset({"Merge", "RefMerge"})
"""Ops that a loop flows back into."""

LOOP_BACK_EDGE = frozenset({"NextIteration", "RefNextIteration"})
"""Ops whose output may flow back to a Merge: the only legal cycles of a graph."""

FUSED_BATCH_NORMS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"})
"""Batch norms of one op (nn_ops.cc)."""

WRITING_OPS = (
    "Assign",
    "ResourceApply",
    "ResourceCountUpTo",
    "ResourceScatter",
    "ResourceSparseApply",
    "ResourceStridedSliceAssign",
)
"""How the names of the ops start that change a resource variable (resource_variable_ops.cc)."""

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
"""Ops that do nothing but call the function in their attribute `f`."""

CONDITIONALS = frozenset({"If", "StatelessIf"})
"""Ops that call one of two functions, as their first input says."""

V1_CONTROL_FLOW = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"})
"""What v1 conditionals and loops are made of."""
