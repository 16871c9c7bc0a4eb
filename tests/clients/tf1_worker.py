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
import tempfile
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


def new_session(rewrite=True):
    """Returns a session on the current graph that sums in the same order every time.

    Args:
      rewrite: whether Grappler may rewrite the graph, as it does by default. With the training of
        a deep net that takes longer than the training.
    """
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = not rewrite
    return tf.compat.v1.Session(config=config)


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


def projection(outputs, projections):
    """Returns `sum(output * projection)` over all projections, None where there are none."""
    terms = [
        tf.reduce_sum(outputs[key] * tf.cast(projection, outputs[key].dtype))
        for key, projection in sorted(projections.items())
    ]
    return tf.add_n(terms) if terms else None


def variable_gradients(module, loss):
    """Returns the gradient of a loss by each trainable variable's name, None where it has none."""
    wholes = {
        name: variable if isinstance(variable, list) else [variable]
        for name, variable in module.variable_map.items()
    }
    trainable = tf.compat.v1.trainable_variables()
    wholes = {name: parts for name, parts in wholes.items() if parts[0] in trainable}
    # All at once: one by one would add as many copies of the backward pass to the graph.
    found = iter(tf.gradients(loss, [part for parts in wholes.values() for part in parts]))
    gradients = {}
    for name, parts in wholes.items():
        of_parts = [next(found) for _ in parts]
        if None in of_parts:
            gradients[name] = None
        else:
            dense = [tf.convert_to_tensor(gradient) for gradient in of_parts]
            gradients[name] = tf.concat(dense, 0) if len(dense) > 1 else dense[0]
    return gradients


def hub_gradients(request):
    """Writes the gradient of `sum(output * projection)` by each trainable variable's name."""
    with tf.Graph().as_default():
        module, outputs, feeds = apply_module(request)
        loss = projection(outputs, load_arrays(request["projections"]))
        gradients = variable_gradients(module, loss)
        found = {name: value for name, value in gradients.items() if value is not None}
        save_values(request["outputs"], run(found, feeds) if found else {})
    return {"without": sorted(set(gradients) - set(found))}


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


def hub_train(request):
    """Trains a module; writes values and gradients, and replies with the losses."""
    with tf.Graph().as_default(), new_session(rewrite=False) as session:
        module, outputs, feeds = apply_module(request)
        projected = projection(outputs, load_arrays(request["projections"]))
        gradients = variable_gradients(module, projected) if projected is not None else {}
        targets = load_arrays(request["targets"])
        fit = tf.add_n([LOSSES[request["loss"]](outputs[key], targets[key]) for key in targets])
        regularization = tf.compat.v1.losses.get_regularization_losses()
        loss = tf.add_n([fit] + regularization)
        updates = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
        update = tf.group(*updates)
        if request["steps"]:
            optimizer = OPTIMIZERS[request["optimizer"]](request["learning_rate"])
            with tf.control_dependencies([update]):
                step = optimizer.minimize(loss)
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(tf.compat.v1.tables_initializer())
        start = variable_values(session, module)
        arrays = under("start", start)
        arrays.update(under("output", session.run(outputs, feeds)))
        arrays["regularization"] = np.array(session.run(regularization), np.float32)
        found = {name: value for name, value in gradients.items() if value is not None}
        arrays.update(under("gradient", session.run(found, feeds)))
        arrays.update(under("forward", changed(start, variable_values(session, module))))
        session.run(update, feeds)
        arrays.update(under("update", changed(start, variable_values(session, module))))
        losses = []
        for _ in range(request["steps"]):
            losses.append(float(session.run([loss, step], feeds)[0]))
        losses.append(float(session.run(loss, feeds)))
        trained = changed(start, variable_values(session, module))
        np.savez(request["outputs"], **{name: portable(array) for name, array in arrays.items()})
    return {
        "losses": losses,
        "updates": len(updates),
        "trained": sorted(trained),
        "without": sorted(name for name, value in gradients.items() if value is None),
    }


LOSSES = {
    "squared": lambda output, target: tf.reduce_mean(tf.square(output - target)),
    "cross_entropy": lambda output, target: (
        -tf.reduce_mean(tf.reduce_sum(target * tf.math.log(tf.maximum(output, 1e-10)), -1))
    ),
}

OPTIMIZERS = {
    "adam": tf.compat.v1.train.AdamOptimizer,
    "sgd": tf.compat.v1.train.GradientDescentOptimizer,
}


def variable_values(session, module):
    """Returns the values of a module's variables by name, partitioned ones as a whole."""
    values = session.run(module.variable_map)
    return {
        name: np.concatenate(value) if isinstance(value, list) else value
        for name, value in values.items()
    }


def changed(before, after):
    """Returns the values that are not, bit for bit, what they were."""
    return {
        name: value for name, value in after.items() if value.tobytes() != before[name].tobytes()
    }


def under(prefix, arrays):
    """Returns the arrays by `prefix|name`."""
    return {f"{prefix}|{name}": array for name, array in arrays.items()}


def hub_estimator(request):
    """Trains, evaluates and predicts with an Estimator whose model_fn has a module and a head.

    Training takes the variant `{"train"}` where there is one, the rest the one without tags, so
    both have to agree on the names of the variables in a checkpoint.
    """
    inputs = load_values(request["inputs"])
    labels_given = load_arrays(request["labels"])["labels"]
    has_train = {"train"} in hub.load_module_spec(request["path"]).get_tags()

    def input_fn():
        return tf.data.Dataset.from_tensors((inputs, labels_given)).repeat()

    def model_fn(features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        tags = {"train"} if training and has_train else set()
        module = hub.Module(request["path"], trainable=True, tags=tags)
        embedding = module(features, signature=request["signature"])
        embedding = tf.reshape(embedding, [-1, int(np.prod(embedding.shape.as_list()[1:]))])
        logits = tf.compat.v1.layers.dense(embedding, int(labels_given.max()) + 1)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
        loss += tf.add_n([tf.constant(0.0)] + tf.compat.v1.losses.get_regularization_losses())
        if mode == tf.estimator.ModeKeys.EVAL:
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        updates = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(updates):
            step = tf.compat.v1.train.AdamOptimizer(request["learning_rate"]).minimize(
                loss, tf.compat.v1.train.get_global_step()
            )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)

    with tempfile.TemporaryDirectory() as folder:
        config = tf.estimator.RunConfig(folder, tf_random_seed=1)
        estimator = tf.estimator.Estimator(model_fn, config=config)
        estimator.train(input_fn, max_steps=1)
        first = estimator.evaluate(input_fn, steps=1)
        estimator.train(input_fn, max_steps=1 + request["steps"])
        last = estimator.evaluate(input_fn, steps=1)
        predictions = estimator.predict(input_fn)
        logits = np.stack([next(predictions)["logits"] for _ in labels_given])
    np.savez(request["outputs"], logits=logits)
    return {"losses": [float(first["loss"]), float(last["loss"])]}


def hub_client(request):
    """Does what else clients do with a module; writes the outputs of each way.

    It is instantiated twice in one graph, applied twice, instantiated within variable scopes, and
    exported and loaded again.
    """
    path, signature = request["path"], request["signature"]
    values = load_values(request["inputs"])
    arrays, reply = {}, {"infos": {}, "variables": {}}
    with tf.Graph().as_default(), new_session() as session:
        first, second = hub.Module(path), hub.Module(path)
        with tf.compat.v1.variable_scope("outer"), tf.compat.v1.variable_scope("inner"):
            nested = hub.Module(path, name="of_its_own")
        tensors = {
            name: placeholder(info) for name, info in first.get_input_info_dict(signature).items()
        }
        feeds = {tensors[name]: value for name, value in values.items()}
        ways = {
            "first": first(tensors, signature=signature, as_dict=True),
            "again": first(tensors, signature=signature, as_dict=True),
            "second": second(tensors, signature=signature, as_dict=True),
            "nested": nested(tensors, signature=signature, as_dict=True),
        }
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(tf.compat.v1.tables_initializer())
        for way, outputs in ways.items():
            for name, value in session.run(outputs, feeds).items():
                arrays[f"{way}|{name}"] = value
        for name, module in (("first", first), ("second", second), ("nested", nested)):
            parts = [v if isinstance(v, list) else [v] for v in module.variable_map.values()]
            reply["variables"][name] = sorted(p.op.name for whole in parts for p in whole)
        reply["module_variables"] = sorted(first.variable_map)
        for name in first.get_signature_names():
            reply["infos"][name] = {
                "inputs": describe(first.get_input_info_dict(name)),
                "outputs": describe(first.get_output_info_dict(name)),
            }
        if request["image"]:
            reply["image_size"] = [int(n) for n in hub.get_expected_image_size(first)]
            reply["channels"] = int(hub.get_num_image_channels(first))
        exported = os.path.join(request["folder"], "exported")
        first.export(exported, session)
    reply["tags"] = sorted(sorted(tags) for tags in hub.load_module_spec(path).get_tags())
    reply["exported_tags"] = sorted(
        sorted(tags) for tags in hub.load_module_spec(exported).get_tags()
    )
    with tf.Graph().as_default():
        _, outputs, feeds = apply_module(dict(request, path=exported, trainable=False, tags=[]))
        for name, value in run(outputs, feeds).items():
            arrays[f"exported|{name}"] = value
    save_values(request["outputs"], arrays)
    return reply


def describe(infos):
    """Returns dtypes and shapes as JSON has them; a shape of unknown rank is None."""
    return {
        name: [
            info.dtype.name,
            None if info.get_shape().ndims is None else info.get_shape().as_list(),
        ]
        for name, info in infos.items()
    }


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
        hub_train,
        hub_estimator,
        hub_client,
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
