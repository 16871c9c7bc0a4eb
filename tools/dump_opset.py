"""Dumps what the TensorFlow release that runs this script knows of ops.

    python tools/dump_opset.py bridge/opsets/tf-2.21
    .venv-tf1/bin/python tools/dump_opset.py --target bridge/opsets/tf-1.15

This writes

    tf-2.21.opset                   a zlib-compressed OpList without descriptions, sorted by name
    tf-2.21.no-gradient.txt         the ops for which the release registers neither a gradient nor
                                    that there is none: taking a gradient through one raises
    tf-2.21.not-differentiable.txt  the ops registered as having no gradient: it is None

and with --target, for a release that modules are written for, also

    tf-1.15.kernels.txt             the kernels that run on a CPU, by the types that they take
    tf-1.15.json                    the release, its graph versions and its data types

A line of the kernels is an op and the types that each constrained attribute may have; a node has a
kernel if one line of its op allows all its types. It runs on every TensorFlow from 1.15 on, so it
keeps to Python 3.7.
"""

import argparse
import json
import os
import zlib

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A device without a kernel of its own takes the default one (core/framework/op_kernel.cc).
CPU_DEVICES = ("CPU", "DEFAULT")


def registered_ops():
    """Returns every op that this release registers, as an OpList message."""
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2

    if tf.__version__.startswith(("1.", "2.0.", "2.1.")):
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


def registered_gradients():
    """Returns the ops that TensorFlow has a gradient for, and those it knows to have none."""
    from tensorflow.python.framework import ops

    registry = getattr(ops, "gradient_registry", None) or ops._gradient_registry
    names = set(registry.list())
    without = {name for name in names if registry.lookup(name) is None}
    return names - without, without


def cpu_kernels(names):
    """Returns for each op the sets of types that its kernels take, as lines of the file.

    Kernels with a label are left out: only a node that asks for one gets it.
    """
    from tensorflow.python.framework import kernels

    found = {name: set() for name in names}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type in CPU_DEVICES and not kernel.label and kernel.op in found:
            constraints = {}
            for constraint in kernel.constraint:
                types = frozenset(map(type_name, constraint.allowed_values.list.type))
                constraints[constraint.name] = types & constraints.get(constraint.name, types)
            found[kernel.op].add(frozenset(constraints.items()))
    return [
        " ".join([name] + ["%s=%s" % (attr, ",".join(types)) for attr, types in row])
        for name in sorted(found)
        for row in sorted(
            sorted((attr, sorted(types)) for attr, types in row) for row in merged(found[name])
        )
    ]


def merged(rows):
    """Joins kernels that differ in the types of one attribute only, one attribute after another."""
    for attr in sorted({attr for row in rows for attr, _ in row}):
        joined = {}
        for row in rows:
            others = dict(row)
            types = others.pop(attr, None)
            key = (frozenset(others.items()), types is None)
            joined.setdefault(key, set()).update(types or ())
        rows = {
            others if is_free else others | {(attr, frozenset(types))}
            for (others, is_free), types in joined.items()
        }
    return rows


def type_name(dtype):
    """Returns the name of a type as the files have it: `float`, `half`."""
    from tensorflow.core.framework import types_pb2

    return types_pb2.DataType.Name(dtype)[len("DT_") :].lower()


def facts():
    """Returns the release, what it says of the graphs that it writes, and its types."""
    import tensorflow as tf
    from tensorflow.core.framework import types_pb2

    dtypes = map(type_name, sorted(types_pb2.DataType.values()))
    return {
        "tensorflow": tf.__version__,
        "graph_def_version": tf.version.GRAPH_DEF_VERSION,
        "graph_def_version_min_consumer": tf.version.GRAPH_DEF_VERSION_MIN_CONSUMER,
        "data_types": [name for name in dtypes if name != "invalid" and not name.endswith("_ref")],
    }


def write_lines(path, lines):
    """Writes lines of text."""
    with open(path, "w") as file:
        file.write("".join(line + "\n" for line in lines))


def main():
    """Writes the files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("prefix")
    parser.add_argument("--target", action="store_true")
    args = parser.parse_args()
    ops = registered_ops()
    names = [op.name for op in ops.op]
    with open(args.prefix + ".opset", "wb") as file:
        file.write(zlib.compress(ops.SerializeToString(deterministic=True), 9))
    with_gradient, not_differentiable = registered_gradients()
    without = [name for name in names if name not in with_gradient | not_differentiable]
    write_lines(args.prefix + ".no-gradient.txt", without)
    write_lines(
        args.prefix + ".not-differentiable.txt",
        [name for name in names if name in not_differentiable],
    )
    if args.target:
        write_lines(args.prefix + ".kernels.txt", cpu_kernels(names))
        with open(args.prefix + ".json", "w") as file:
            file.write(json.dumps(facts(), indent=2) + "\n")
    print("%s: %d ops, %d without gradient" % (args.prefix, len(ops.op), len(without)))


if __name__ == "__main__":
    main()
