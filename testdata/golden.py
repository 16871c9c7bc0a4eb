"""Records what the legacy client computes with a module: the goldens.

`record(path, ...)` instantiates a module with `hub.Module(path, trainable=True, tags=...)`, in a
fresh graph for each variant and signature, and returns arrays (for the npz, keys as README.md
describes them) and facts (for the JSON).
"""

import base64
import os

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import values
from tensorflow_hub import saved_model_lib

LEARNING_RATE = 0.1
STEPS = 3
BATCH = 3
IMAGE_BATCH = 2
OTHER_UNKNOWN_DIM = 8
SCOPE = "module/"
RANDOM_MARKS = ("Random", "Multinomial", "TruncatedNormal", "Shuffle")


def session_config():
    """Returns a single-threaded configuration, for repeatable sums."""
    return tf.ConfigProto(
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=1,
        allow_soft_placement=True,
    )


def plain_array(value):
    """Returns a value as an array that an npz holds without pickle.

    Strings become fixed-width bytes and bfloat16 becomes float32 (the JSON has the true dtype).
    """
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind == "U":
        items = [item if isinstance(item, bytes) else item.encode("utf-8") for item in array.flat]
        return np.array(items, dtype=np.bytes_).reshape(array.shape)
    if array.dtype == tf.bfloat16.as_numpy_dtype:
        return array.astype(np.float32)
    return array


def put(arrays, key, value):
    """Stores a dense, sparse or ragged value under `key`, composite ones by component."""
    if isinstance(value, tf.SparseTensorValue):
        for part in ("indices", "values", "dense_shape"):
            arrays[f"{key}|{part}"] = plain_array(getattr(value, part))
    elif isinstance(value, tf.ragged.RaggedTensorValue):
        arrays[f"{key}|values"] = plain_array(value.flat_values)
        for depth, splits in enumerate(value.nested_row_splits):
            arrays[f"{key}|row_splits_{depth}"] = plain_array(splits)
    else:
        arrays[key] = plain_array(value)


def tags_key(tags):
    """Returns the sorted tags joined with `_`; empty for the empty set."""
    return "_".join(sorted(tags))


def _shape_list(shape):
    """Returns a `tf.TensorShape` for JSON: a list with None, or None for unknown rank."""
    return None if shape.ndims is None else shape.as_list()


def _tensor_info(info):
    """Returns a JSON description of a `hub.ParsedTensorInfo`."""
    kind = "sparse" if info.is_sparse else "ragged" if info.is_composite else "dense"
    return {"kind": kind, "dtype": info.dtype.name, "shape": _shape_list(info.get_shape())}


def _placeholder(info):
    """Returns the client's placeholder for an input."""
    if info.is_sparse:
        return tf.sparse_placeholder(info.dtype)
    if info.is_composite:
        return tf.ragged.placeholder(info.dtype, info.get_shape().ndims - 1, [])
    return tf.placeholder(info.dtype, info.get_shape())


def _input_value(signature, name, info, inputs):
    """Returns the value of an input: the case's own, else a seeded one."""
    for key in (f"{signature}/{name}", name):
        if key in inputs:
            return inputs[key]
    dims = info.get_shape().as_list()
    shape = [OTHER_UNKNOWN_DIM if dim is None else dim for dim in dims]
    if dims and dims[0] is None:
        shape[0] = IMAGE_BATCH if len(dims) == 4 else BATCH
    return values.dense_input(name, info.dtype, shape)


def _ancestors(tensors_or_ops, stop):
    """Returns the ops that the given tensors or ops need, without going behind `stop`."""
    seen = set()
    todo = [getattr(item, "op", item) for item in tensors_or_ops]
    while todo:
        op = todo.pop()
        if op in seen or op in stop:
            continue
        seen.add(op)
        todo.extend(tensor.op for tensor in op.inputs)
        todo.extend(op.control_inputs)
    return seen


def _flat(structure):
    """Returns the dense tensors of a structure, composite tensors by component."""
    return tf.nest.flatten(structure, expand_composites=True)


def _is_random(ops):
    """Whether any op draws random numbers."""
    return any(mark in op.type for op in ops for mark in RANDOM_MARKS)


class _Application:
    """A signature of a variant, applied by the client in the current (fresh) graph.

    Attributes:
        module: The `hub.Module`.
        outputs: The dict of outputs.
        update_ops: The UPDATE_OPS that the client got.
        runnable: Those of them that need no input of another signature.
        feeds: What to feed for all runs.
        deterministic: Whether neither outputs nor updates draw random numbers.
    """

    def __init__(self, path, tags, signature, inputs):
        self.module = hub.Module(path, trainable=True, tags=tags, name=SCOPE[:-1])
        infos = self.module.get_input_info_dict(signature)
        tensors = {name: _placeholder(info) for name, info in infos.items()}
        self.inputs = {
            name: _input_value(signature, name, info, inputs) for name, info in infos.items()
        }
        self.feeds = {tensors[name]: self.inputs[name] for name in tensors}
        self.outputs = self.module(tensors, signature=signature, as_dict=True)
        self.update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        fed = {tensor.op for tensor in _flat(list(tensors.values()))}
        needs = {op: _ancestors([op], fed) for op in self.update_ops}
        self.runnable = [
            op for op, ops in needs.items() if all(a.type != "Placeholder" for a in ops)
        ]
        everything = set(_ancestors(_flat(self.outputs), fed)).union(*needs.values())
        self.deterministic = not _is_random(everything)
        self.config = session_config()

    def start(self, session):
        """Initializes (or resets) all variables, and the tables."""
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])

    def differentiable(self):
        """Returns the sorted keys of the dense float outputs."""
        return sorted(
            key
            for key, output in self.outputs.items()
            if isinstance(output, tf.Tensor) and output.dtype.is_floating
        )


def _module_name(name, prefix):
    """Strips the client's scope off the name of an op."""
    assert name.startswith(prefix), (name, prefix)
    return name[len(prefix) :]


def read_variables(session, module):
    """Returns the values of a module's variables by name, partitioned ones put together."""
    result = {}
    for name, variable in module.variable_map.items():
        if isinstance(variable, list):
            result[name] = np.concatenate(session.run(variable), axis=0)
        else:
            result[name] = session.run(variable)
    return result


def _projected(outputs, projections):
    """Returns the sum of `output * projection` over the given outputs, float32."""
    terms = [
        tf.reduce_sum(tf.cast(outputs[key], tf.float32) * value)
        for key, value in sorted(projections.items())
    ]
    return tf.add_n(terms)


def _gradients(app, loss):
    """Returns gradients of a loss by full variable name (None where there is none)."""
    trainable = set(tf.trainable_variables())
    result = {}
    for name, variable in sorted(app.module.variable_map.items()):
        parts = variable if isinstance(variable, list) else [variable]
        if parts[0] not in trainable:
            continue
        grads = tf.gradients(loss, parts)
        if any(grad is None for grad in grads):
            result[name] = None
        else:
            grads = [tf.convert_to_tensor(grad) for grad in grads]
            result[name] = tf.concat(grads, 0) if len(grads) > 1 else grads[0]
    return result


def _training_op(app, loss):
    """Returns one step: the runnable update ops, then SGD on the loss."""
    optimizer = tf.train.GradientDescentOptimizer(LEARNING_RATE)
    pairs = []
    if tf.trainable_variables():
        # Reference variables must not change before all gradients have been computed.
        pairs = optimizer.compute_gradients(
            loss, tf.trainable_variables(), gate_gradients=tf.train.Optimizer.GATE_GRAPH
        )
    pairs = [(grad, variable) for grad, variable in pairs if grad is not None]
    with tf.control_dependencies(app.runnable):
        return optimizer.apply_gradients(pairs) if pairs else tf.no_op()


def _changed(before, after):
    """Returns the entries of `after` whose bytes differ from `before`."""
    return {
        name: value
        for name, value in after.items()
        if plain_array(value).tobytes() != plain_array(before[name]).tobytes()
    }


def _put_changed(arrays, prefix, initial, session, module):
    """Stores the variables that are not what they were initially."""
    for name, value in _changed(initial, read_variables(session, module)).items():
        put(arrays, f"{prefix}|{name}", value)


def _record_training(app, session, prefix, projections, arrays):
    """Records gradients, and variables after updates and after training steps."""
    step_keys = ["default"] if "default" in projections else sorted(projections)
    grads, step = {}, None
    if projections:
        grads = _gradients(app, _projected(app.outputs, projections))
        loss = _projected(app.outputs, {key: projections[key] for key in step_keys})
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        step = _training_op(app, tf.add_n([loss] + [tf.cast(x, tf.float32) for x in losses]))
    app.start(session)
    initial = read_variables(session, app.module)
    for name, grad in grads.items():
        if grad is not None:
            put(arrays, f"{prefix}|grad|{name}", session.run(grad, app.feeds))
    if app.runnable:
        session.run(app.runnable, app.feeds)
        _put_changed(arrays, f"{prefix}|after_updates", initial, session, app.module)
    if step is not None:
        app.start(session)
        for _ in range(STEPS):
            session.run(step, app.feeds)
        _put_changed(arrays, f"{prefix}|after_3_steps", initial, session, app.module)
    return {
        "grad_outputs": sorted(projections),
        "no_grad": sorted(name for name, grad in grads.items() if grad is None),
        "step_outputs": step_keys,
        "after_updates": bool(app.runnable),
        "after_3_steps": step is not None,
    }


def _record_signature(path, tags, signature, arrays, *, inputs, training):
    """Records one signature of one variant; returns its facts for the JSON."""
    prefix = f"{tags_key(tags)}|{signature}"
    with tf.Graph().as_default():
        app = _Application(path, tags, signature, inputs)
        op_prefix = f"{SCOPE[:-1]}_apply_{signature}/"
        facts = {
            "deterministic": app.deterministic,
            "update_ops": [
                {
                    "name": _module_name(getattr(op, "op", op).name, op_prefix),
                    "runnable": op in app.runnable,
                }
                for op in app.update_ops
            ],
        }
        for name, value in app.inputs.items():
            put(arrays, f"{prefix}|in|{name}", value)
        if not app.deterministic:
            return facts
        with tf.Session(config=app.config) as session:
            app.start(session)
            outputs = session.run(app.outputs, app.feeds)
        for key, value in outputs.items():
            put(arrays, f"{prefix}|out|{key}", value)
        if not training:
            return facts
        projections = {
            key: values.projection(key, outputs[key].shape) for key in app.differentiable()
        }
        for key, value in projections.items():
            put(arrays, f"{prefix}|proj|{key}", value)
        with tf.Session(config=app.config) as session:
            try:
                facts.update(_record_training(app, session, prefix, projections, arrays))
            except TypeError as error:  # The client itself cannot differentiate it.
                facts["training_error"] = str(error)
    return facts


def _variable_facts(name, variable):
    """Returns a JSON description of an entry of `hub.Module.variable_map`."""
    parts = variable if isinstance(variable, list) else [variable]
    shape = parts[0].shape.as_list()
    facts = {
        "name": name,
        "dtype": parts[0].dtype.base_dtype.name,
        "shape": shape,
        "is_resource": all(part.op.type == "VarHandleOp" for part in parts),
    }
    if isinstance(variable, list):
        facts["shape"] = [sum(part.shape.as_list()[0] for part in parts)] + shape[1:]
        facts["partitions"] = [
            {"name": _module_name(part.op.name, SCOPE), "shape": part.shape.as_list()}
            for part in parts
        ]
    return facts


def _expected_image_size(module):
    """Returns `get_expected_image_size(module)`, or None where the client raises an error."""
    try:
        return hub.get_expected_image_size(module)
    except ValueError:
        return None


def _record_variant(path, tags, arrays):
    """Records state, losses and attachments of one variant; returns facts for the JSON."""
    with tf.Graph().as_default():
        module = hub.Module(path, trainable=True, tags=tags, name=SCOPE[:-1])
        losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
        trainable = set(tf.trainable_variables())
        variables = []
        for name, variable in sorted(module.variable_map.items()):
            first = variable[0] if isinstance(variable, list) else variable
            variables.append(_variable_facts(name, variable))
            variables[-1]["trainable"] = first in trainable
        with tf.Session(config=session_config()) as session:
            session.run(tf.global_variables_initializer())
            for name, value in read_variables(session, module).items():
                put(arrays, f"var|{name}", value)
            for index, value in enumerate(session.run(losses)):
                put(arrays, f"{tags_key(tags)}|reg|{index}", value)
        size = _expected_image_size(module)
    attached = saved_model_lib.load(path).get_attached_bytes_map(tags)
    return {
        "tags": sorted(tags),
        "key": tags_key(tags),
        "variables": variables,
        "regularization_losses": [_module_name(loss.op.name, SCOPE) for loss in losses],
        "expected_image_size": size,
        "attachments": {
            key: base64.b64encode(value).decode("ascii") for key, value in sorted(attached.items())
        },
    }


def _same_as(meta_graph, signature, others):
    """Returns the earlier signature that maps the very same tensors, or None."""
    for other in others:
        if meta_graph.signature_def[other] == meta_graph.signature_def[signature]:
            return other
    return None


def _infos(infos):
    """Returns JSON descriptions of a dict of `hub.ParsedTensorInfo`."""
    return {name: _tensor_info(info) for name, info in sorted(infos.items())}


def record(path, inputs=None, training=True):
    """Records the goldens of a module.

    Args:
        path: The directory of the module.
        inputs: A dict of input values by `name` or `signature/name`, where the seeded default is
            not what is wanted.
        training: Whether to record gradients, updates and training steps too.

    Returns:
        A tuple `(arrays, facts)` of two dicts.
    """
    arrays = {}
    spec = hub.load_module_spec(path)
    handler = saved_model_lib.load(path)
    variants = []
    for tags in sorted(spec.get_tags(), key=tags_key):
        facts = _record_variant(path, tags, arrays)
        facts["signatures"] = {}
        for signature in sorted(spec.get_signature_names(tags)):
            same_as = _same_as(handler.get_meta_graph(tags), signature, facts["signatures"])
            entry = {
                "inputs": _infos(spec.get_input_info_dict(signature, tags)),
                "outputs": _infos(spec.get_output_info_dict(signature, tags)),
                "same_as": same_as,
            }
            if same_as is None:
                entry.update(
                    _record_signature(
                        path, tags, signature, arrays, inputs=inputs or {}, training=training
                    )
                )
            facts["signatures"][signature] = entry
        variants.append(facts)
    return arrays, {
        "module": os.path.basename(path),
        "versions": {"tensorflow": tf.__version__, "tensorflow_hub": hub.__version__},
        "variants": variants,
    }
