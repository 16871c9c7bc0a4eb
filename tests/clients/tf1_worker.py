"""The TensorFlow 1.15 end of `tests.clients.tf1`: answers requests until stdin closes.

A request is one line of JSON on stdin, its reply one line of JSON on stdout. Arrays travel in .npz
files whose paths stand in the request. A request that fails is answered with
`{"error": traceback}`, and the worker lives on. It runs under Python 3.7.

A sparse tensor `x` travels as `x|indices`, `x|values` and `x|dense_shape`, a ragged one as
`x|values` and `x|row_splits_0`, `x|row_splits_1` …, as in testdata/golden. Strings travel as arrays
of bytes (so they lose zero bytes at their ends), bfloat16 as float32.
"""

import json
import os
import platform
import sys
import traceback
import warnings

# Replies go to a private copy of stdout, so that nothing TensorFlow prints comes between them.
REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402
from tensorflow.python.eager import context  # noqa: E402
from tensorflow.python.training.tracking import graph_view  # noqa: E402

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)

TESTDATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata")
SPARSE_PARTS = ("indices", "values", "dense_shape")


def load_arrays(path):
    """Returns the arrays of an .npz file by name."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def portable(value):
    """Returns an array that any numpy reads without pickle and without TensorFlow."""
    array = np.asarray(value)
    if array.dtype == object:
        return array.astype("S")
    if array.dtype == tf.bfloat16.as_numpy_dtype:
        return array.astype(np.float32)
    return array


def save_values(path, values):
    """Writes dense, sparse and ragged values by name."""
    arrays = {}
    for name, value in values.items():
        if isinstance(value, tf.compat.v1.SparseTensorValue):
            for part in SPARSE_PARTS:
                arrays[f"{name}|{part}"] = getattr(value, part)
        elif isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
            arrays[f"{name}|values"] = value.flat_values
            for depth, splits in enumerate(value.nested_row_splits):
                arrays[f"{name}|row_splits_{depth}"] = splits
        else:
            arrays[name] = value
    np.savez(path, **{name: portable(array) for name, array in arrays.items()})


def load_values(path):
    """Reads what `save_values` writes."""
    arrays = load_arrays(path)
    return {name: assemble(name, arrays) for name in {key.split("|")[0] for key in arrays}}


def assemble(name, arrays):
    """Puts the value of one name together from its parts."""
    if name in arrays:
        return arrays[name]
    if f"{name}|dense_shape" in arrays:
        return tf.compat.v1.SparseTensorValue(*(arrays[f"{name}|{part}"] for part in SPARSE_PARTS))
    value = arrays[f"{name}|values"]
    for key in sorted(
        (key for key in arrays if key.startswith(f"{name}|row_splits_")), reverse=True
    ):
        value = tf.compat.v1.ragged.RaggedTensorValue(value, arrays[key])
    return value


def placeholder(info):
    """Returns what a client would feed an input through.

    Args:
      info: the `hub.ParsedTensorInfo` of the input.
    """
    if info.is_sparse:
        return tf.compat.v1.sparse_placeholder(info.dtype)
    if info.is_composite:
        return tf.compat.v1.ragged.placeholder(info.dtype, info.get_shape().ndims - 1, [])
    return tf.compat.v1.placeholder(info.dtype, info.get_shape())


def new_session():
    """Returns a session on the current graph that sums in the same order every time."""
    return tf.compat.v1.Session(
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1,
            inter_op_parallelism_threads=1,
            allow_soft_placement=True,
        )
    )


def apply_module(request):
    """Applies a module in the current graph; returns it, its outputs and the feeds."""
    module = hub.Module(request["path"], trainable=request["trainable"], tags=set(request["tags"]))
    infos = module.get_input_info_dict(request["signature"])
    values = load_values(request["inputs"])
    tensors = {name: placeholder(infos[name]) for name in values}
    outputs = module(tensors, signature=request["signature"], as_dict=True)
    return module, outputs, {tensors[name]: value for name, value in values.items()}


def run(fetches, feeds):
    """Runs tensors of the current graph after all initializers; returns their values."""
    with new_session() as session:
        session.run([tf.compat.v1.global_variables_initializer()])
        session.run([tf.compat.v1.tables_initializer()])
        return session.run(fetches, feeds)


def ping(_):
    """Replies with versions."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "tensorflow_hub": hub.__version__,
    }


def hub_apply(request):
    """Writes the outputs of a signature of a module."""
    with tf.Graph().as_default():
        _, outputs, feeds = apply_module(request)
        save_values(request["outputs"], run(outputs, feeds))
    return {}


def hub_gradients(request):
    """Writes the gradient of `sum(output * projection)` by each trainable variable's name."""
    with tf.Graph().as_default():
        module, outputs, feeds = apply_module(request)
        loss = tf.add_n(
            [
                tf.reduce_sum(outputs[key] * tf.cast(projection, outputs[key].dtype))
                for key, projection in sorted(load_arrays(request["projections"]).items())
            ]
        )
        gradients, without = {}, []
        for name, variable in module.variable_map.items():
            parts = variable if isinstance(variable, list) else [variable]
            if parts[0] not in tf.compat.v1.trainable_variables():
                continue
            found = tf.gradients(loss, parts)
            if None in found:
                without.append(name)
            else:
                dense = [tf.convert_to_tensor(gradient) for gradient in found]
                gradients[name] = tf.concat(dense, 0) if len(dense) > 1 else dense[0]
        save_values(request["outputs"], run(gradients, feeds) if gradients else {})
    return {"without": sorted(without)}


def hub_record(request):
    """Writes all that testdata/golden.py records of a module; replies with the facts."""
    if TESTDATA not in sys.path:
        sys.path.append(TESTDATA)
    import golden

    arrays, facts = golden.record(
        request["path"], load_values(request["inputs"]), request["training"]
    )
    np.savez(request["outputs"], **arrays)
    return {"facts": facts}


def tensors_of(infos):
    """Returns the names of the tensors of a SignatureDef's inputs or outputs, part by part."""
    names = {}
    for name, info in infos.items():
        encoding = info.WhichOneof("encoding")
        if encoding == "coo_sparse":
            for part in SPARSE_PARTS:
                names[f"{name}|{part}"] = getattr(info.coo_sparse, f"{part}_tensor_name")
        elif encoding == "name":
            names[name] = info.name
        else:
            raise NotImplementedError(f"{name} is encoded as {encoding}")
    return names


def saved_model_signature(request):
    """Writes the outputs of a SignatureDef, loaded as a graph."""
    with tf.Graph().as_default(), new_session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, request["tags"], request["path"])
        signature = meta_graph.signature_def[request["signature"]]
        inputs = tensors_of(signature.inputs)
        feeds = {inputs[name]: array for name, array in load_arrays(request["inputs"]).items()}
        save_values(request["outputs"], session.run(tensors_of(signature.outputs), feeds))
    return {}


def saved_model_v2(request):
    """Writes the outputs of a signature, loaded as an object; replies with its variables."""
    with context.eager_mode():
        loaded = tf.compat.v2.saved_model.load(request["path"], request["tags"] or None)
        signature = loaded.signatures[request["signature"]]
        specs = signature.structured_input_signature[1]
        inputs = {
            name: tf.constant(array, specs[name].dtype)
            for name, array in load_arrays(request["inputs"]).items()
        }
        outputs = signature(**inputs)
        save_values(request["outputs"], {name: value.numpy() for name, value in outputs.items()})
        reachable = graph_view.ObjectGraphView(loaded).list_objects()
        variables = [found.name for found in reachable if isinstance(found, tf.Variable)]
        return {"variables": sorted(variables)}


def run_graph(request):
    """Writes tensors of a plain graph, and gradients of `sum(fetch * projection)`."""
    graph_def = tf.compat.v1.GraphDef()
    with open(request["path"], "rb") as file:
        graph_def.ParseFromString(file.read())
    with tf.Graph().as_default() as graph, new_session() as session:
        tf.import_graph_def(graph_def, name="")
        fetches = {name: graph.get_tensor_by_name(name) for name in request["fetches"]}
        losses = [
            tf.reduce_sum(fetches[name] * tf.cast(projection, fetches[name].dtype))
            for name, projection in sorted(load_arrays(request["projections"]).items())
        ]
        sources = [graph.get_tensor_by_name(name) for name in request["gradients"]]
        found = tf.gradients(losses, sources) if sources else []
        names = [f"gradient|{name}" for name in request["gradients"]]
        without = [name for name, value in zip(request["gradients"], found) if value is None]
        fetches.update({n: tf.convert_to_tensor(v) for n, v in zip(names, found) if v is not None})
        for step in request["steps"]:
            session.run(step, load_arrays(request["inputs"]))
        values = session.run(fetches, load_arrays(request["inputs"]))
    np.savez(request["outputs"], **{name: portable(value) for name, value in values.items()})
    return {"without": without}


OPS = {
    function.__name__: function
    for function in (
        ping,
        hub_apply,
        hub_gradients,
        hub_record,
        saved_model_signature,
        saved_model_v2,
        run_graph,
    )
}


def main():
    """Answers requests."""
    for line in sys.stdin:
        try:
            request = json.loads(line)
            reply = OPS[request["op"]](request)
        except Exception:
            reply = {"error": traceback.format_exc()}
        REPLIES.write(json.dumps(reply) + "\n")
        REPLIES.flush()


if __name__ == "__main__":
    main()
