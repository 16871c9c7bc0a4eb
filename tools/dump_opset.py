"""Dumps what the TensorFlow release that runs this script knows of ops.

    python tools/dump_opset.py bridge/opsets/tf-2.21

This writes tf-2.21.opset, a zlib-compressed OpList without descriptions, sorted by name, and
tf-2.21.no-gradient.txt, the ops for which the release registers neither a gradient nor that there
is none: taking a gradient through one raises. It runs on every TensorFlow from 1.15 on, so it
keeps to Python 3.7.
"""

import os
import sys
import zlib

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def registered_ops():
    """Returns every op that this release registers, as an OpList message."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2

    if tf.__version__.startswith("1."):
        from tensorflow.python import pywrap_tensorflow as c_api
    else:
        from tensorflow.python.client import pywrap_tf_session as c_api
    everything = op_def_pb2.OpList()
    everything.ParseFromString(c_api.TF_GetBuffer(c_api.TF_GetAllOpList()))
    result = op_def_pb2.OpList()
    for op in sorted(everything.op, key=lambda op: op.name):
        stripped = result.op.add()
        stripped.CopyFrom(op)
        for field in ("summary", "description"):
            stripped.ClearField(field)
        for part in list(stripped.input_arg) + list(stripped.output_arg) + list(stripped.attr):
            part.ClearField("description")
            if hasattr(part, "experimental_full_type"):
                part.ClearField("experimental_full_type")
    return result


def ops_without_gradient(names):
    """Returns those of the ops whose gradient TensorFlow looks up in vain."""
    from tensorflow.python.framework import ops

    registry = getattr(ops, "gradient_registry", None) or ops._gradient_registry
    with_gradient = set(registry.list())
    return [name for name in names if name not in with_gradient]


def main(prefix):
    """Writes the files."""
    ops = registered_ops()
    with open(prefix + ".opset", "wb") as file:
        file.write(zlib.compress(ops.SerializeToString(), 9))
    without = ops_without_gradient(op.name for op in ops.op)
    with open(prefix + ".no-gradient.txt", "w") as file:
        file.write("".join(name + "\n" for name in without))
    print("%s: %d ops, %d without gradient" % (prefix, len(ops.op), len(without)))


if __name__ == "__main__":
    main(sys.argv[1])
