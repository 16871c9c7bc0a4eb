"""Dumps the op registry of the TensorFlow release that runs this script.

    python tools/dump_opset.py bridge/opsets/tf-2.21.opset

The file is a zlib-compressed OpList without descriptions, sorted by name. It runs on every
TensorFlow from 1.15 on, so it keeps to Python 3.7.
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


def main(path):
    """Writes the opset file."""
    ops = registered_ops()
    with open(path, "wb") as file:
        file.write(zlib.compress(ops.SerializeToString(), 9))
    print("%s: %d ops, %d bytes" % (path, len(ops.op), os.path.getsize(path)))


if __name__ == "__main__":
    main(sys.argv[1])
