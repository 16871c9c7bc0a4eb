"""What can be seen of modules in graphs, written down by the old library and by bridge.hub.

    python scenarios.py tensorflow_hub MODULES_DIR MADE_DIR OUT.json
    python -m tests.hub.scenarios bridge.hub MODULES_DIR MADE_DIR OUT.json

The first runs with Python 3.7, TensorFlow 1.15 and tensorflow-hub 0.12, and makes modules in
MADE_DIR; the second runs with today's, on the same modules. Each function of `SCENARIOS` says
something in terms that JSON has; what is raised is a list of names of classes.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
SCENARIOS = {}


class Client:
    """The library that is looked at, and where modules are."""

    def __init__(self, hub, modules, made):
        self.hub = hub
        self.modules = modules
        self.made = made

    def module(self, which, **options):
        return self.hub.Module(str(self.modules / which), **options)

    def made_module(self, which, **options):
        return self.hub.Module(str(self.made / which), **options)


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def colocated_module(hub):
    first = tf.get_variable("first", initializer=1.0, use_resource=False)
    with tf.colocate_with(first):
        second = tf.get_variable("second", initializer=2.0, use_resource=False)
    x = tf.placeholder(tf.float32, name="x")
    with tf.colocate_with(first), tf.colocate_with(x):
        both = tf.add(first, x, name="both")
    with tf.colocate_with(x):
        after = tf.add(x, second, name="after")
    hub.add_signature(inputs={"x": x}, outputs={"default": both, "after": after, "same": x})


def halves_module(hub):
    a, b = tf.split([1.0, 2.0], 2, name="split")
    with tf.colocate_with(a), tf.colocate_with(b):
        total = tf.add(a, b, name="add")
    hub.add_signature("both", inputs={"a": a, "b": b}, outputs=total)
    hub.add_signature("one", inputs={"a": a}, outputs=total)


def counting_module(hub):
    x = tf.placeholder(tf.float32, [None], name="x")
    total = tf.get_variable("total", initializer=3.0, use_resource=True)
    count = tf.get_variable("count", initializer=0, trainable=False, use_resource=True)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_add(count, tf.size(x)).op)
    tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, tf.nn.l2_loss(total, name="loss"))
    hub.add_signature(inputs={"x": x}, outputs=x * total)


MADE = {"colocated": colocated_module, "halves": halves_module, "counting": counting_module}


def make(hub, folder):
    for name, module_fn in MADE.items():
        spec = hub.create_module_spec(lambda fn=module_fn: fn(hub))
        with tf.Graph().as_default(), tf.Session() as session:
            module = hub.Module(spec)
            session.run(tf.global_variables_initializer())
            module.export(str(folder / name), session)


def names(items):
    return [item.name for item in items]


def collections():
    """Names of what is in each collection that programs know."""
    keys = sorted(
        value
        for key, value in vars(tf.GraphKeys).items()
        if key.isupper() and isinstance(value, str)
    )
    graph = tf.get_default_graph()
    return {key: names(graph.get_collection(key)) for key in keys if graph.get_collection(key)}


def ops(scope):
    """Names and types of the ops in a scope."""
    return sorted(
        (op.name, op.type)
        for op in tf.get_default_graph().get_operations()
        if op.name.startswith(scope + "/")
    )


def groups(tensor):
    return sorted(group.decode() for group in tensor.op.colocation_groups())


def run(fetches, feeds=None):
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.tables_initializer()])
        return np.asarray(session.run(fetches, feeds)).tolist()


def raised(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except Exception as error:
        return [kind.__name__ for kind in type(error).__mro__]
    return []


@scenario
def variables_are_named_by_their_scope(client):
    modules = [client.module("partitioned", name="emb")]
    with tf.name_scope("no_variables"):
        modules.append(client.module("partitioned", name="emb"))
    with tf.variable_scope("outer"):
        modules.append(client.module("partitioned", name="emb"))
        modules.append(client.module("toy_image_ref"))
        with tf.variable_scope("deep"), tf.name_scope("op"):
            modules.append(client.module("no_variables", name="a/b"))
    modules.append(client.module("toy_image_resource", name="c/d", tags={"train"}))
    return [
        [
            {
                key: names(value) if isinstance(value, list) else value.name
                for key, value in module.variable_map.items()
            },
            names(module.variables),
        ]
        for module in modules
    ]


@scenario
def applications_are_named_by_module_and_signature(client):
    module = client.module("toy_image_ref", name="net")
    images = np.zeros([1, 16, 16, 3], np.float32)
    result = [module(images).name, module(images).name]
    with tf.name_scope("there"):
        result.append(module(images, signature="image_classification").name)
    with tf.variable_scope("scope"):
        result.append(module(images).name)
        result.append(module({"images": images}, as_dict=True, signature="default")["default"].name)
    with tf.variable_scope("outer"):
        second = client.module("toy_image_ref", name="net")
    return [*result, second(images).name]


@scenario
def collections_get_what_they_should(client):
    result = []
    for name in ("toy_image_ref", "toy_train_nodropout_resource", "counting", "text_vocab"):
        for trainable in (False, True):
            for tags in ([], ["train"]) if name.startswith("toy") else ([],):
                with tf.Graph().as_default():
                    made = name == "counting"
                    module = (client.made_module if made else client.module)(
                        name, trainable=trainable, tags=tags
                    )
                    before = collections()
                    for scope in ("first", "again"):
                        with tf.name_scope(scope):
                            module(_inputs(name))
                    result.append([name, trainable, tags, before, collections()])
    return result


def _inputs(name):
    if name == "counting":
        return [1.0, 2.0]
    return ["the cat"] if name == "text_vocab" else np.zeros([2, 16, 16, 3], np.float32)


@scenario
def graphs_have_the_old_nodes(client):
    client.module("control_flow_ref", trainable=True)(np.zeros([2, 4], np.float32))
    client.module("assets_many", name="words")(["cat"], as_dict=True)
    return [
        ops(scope) for scope in ("module_apply_default", "words_apply_default", "module", "words")
    ]


@scenario
def shared_names_are_of_the_instance(client):
    with tf.variable_scope("s"):
        client.module("toy_image_resource")
    client.module("assets_many")
    return sorted(
        (op.name, op.get_attr("shared_name").decode())
        for op in tf.get_default_graph().get_operations()
        if op.type in ("VarHandleOp", "HashTableV2") and op.get_attr("shared_name")
    )


@scenario
def variable_scopes_do_not_reach_into_modules(client):
    def refuse(*args, **kwargs):
        raise AssertionError("never called")

    with tf.variable_scope(
        "s",
        partitioner=tf.fixed_size_partitioner(2),
        custom_getter=refuse,
        regularizer=refuse,
        use_resource=True,
    ):
        module = client.module("toy_image_ref", trainable=True)
    return [(one.name, one.op.type) for one in module.variables], collections()


@scenario
def a_scope_that_is_entered_again_has_no_second_module_of_a_name(client):
    result = []
    for scope, reuse in (("a", None), ("b", True), ("c", tf.AUTO_REUSE)):
        with tf.variable_scope(scope):
            client.module("partitioned")
        with tf.variable_scope(scope, reuse=reuse):
            result.append(raised(client.module, "partitioned"))
    return result


@scenario
def a_name_scope_that_is_taken_is_an_error(client):
    with tf.name_scope("module"):
        pass
    return [raised(client.module, "partitioned"), client.module("partitioned").variables[0].name]


@scenario
def wrong_calls_raise(client):
    image = client.module("toy_image_ref")
    several = client.module("multi_input")
    keys = sorted(several.get_input_info_dict())
    sparse = client.module("sparse_input")
    result = {
        "type of spec": raised(client.hub.Module, 3),
        "tags": raised(client.module, "partitioned", tags={"absent"}),
        "name": raised(client.module, "partitioned", name="no name"),
        "signature": raised(image, np.zeros([1, 16, 16, 3]), signature="absent"),
        "none": raised(image),
        "missing": raised(image, {}),
        "extra": raised(image, {"images": np.zeros([1, 16, 16, 3]), "more": 1}),
        "several": raised(several, 1.0),
        "one of several": raised(several, {keys[0]: 1.0}),
        "shape": raised(image, np.zeros([1, 2, 3])),
        "text for numbers": raised(image, ["text"]),
        "sparse for dense": raised(image, tf.SparseTensor([[0]], [1.0], [1])),
        "slices for dense": raised(image, tf.IndexedSlices(tf.zeros([1]), tf.constant([0]))),
        "dense for sparse": raised(sparse, {key: [1] for key in sparse.get_input_info_dict()}),
        "no default output": raised(
            several, {key: np.ones(_shape(several, key), _dtype(several, key)) for key in keys}
        ),
        "no default signature": raised(client.module("no_default_signature"), [1.0]),
        "required message": raised(image.get_attached_message, "absent", tf.ConfigProto, True),
    }
    with tf.Graph().as_default():
        result["other graph"] = raised(image, np.zeros([1, 16, 16, 3]))
        with tf.Session() as session:
            result["export in other graph"] = raised(image.export, "unused", session)
    with tf.Graph().as_default() as other, tf.Session(graph=other) as session:
        result["session of other graph"] = raised(image.export, "unused", session)
    return result


def _shape(module, key):
    shape = module.get_input_info_dict()[key].get_shape().as_list()
    return [1 if size is None else size for size in shape]


def _dtype(module, key):
    return module.get_input_info_dict()[key].dtype.as_numpy_dtype


@scenario
def inputs_are_converted(client):
    module = client.made_module("counting")
    placed = tf.placeholder_with_default([1.0, 2.0], None)
    return run(
        [
            module([1, 2]),
            module(np.array([1, 2], np.float64)),
            module((1.5, 2)),
            module(tf.constant([1.0, 2.0])),
            module({"x": tf.get_variable("mine", initializer=[1.0, 2.0])}),
            module(placed),
        ]
    )


@scenario
def colocations_follow_what_replaces(client):
    module = client.made_module("colocated", name="m")
    u, v = tf.constant(1.0, name="u"), tf.constant(2.0, name="v")
    with tf.colocate_with(u), tf.colocate_with(v):
        x = tf.constant(5.0, name="x")
    result = module({"x": x}, as_dict=True)
    variables = [groups(tensor.op.outputs[0]) for tensor in module.variables]
    return [groups(result["default"]), groups(result["after"]), result["same"].name, variables]


@scenario
def colocations_that_mean_two_things_are_errors(client):
    module = client.made_module("halves", name="m")
    u, w = tf.constant([1.0], name="u"), tf.constant([2.0], name="w")
    with tf.colocate_with(u):
        v = tf.constant([3.0], name="v")
    return [
        groups(module({"a": u, "b": v}, signature="both")),
        raised(module, {"a": u, "b": w}, signature="both"),
        raised(module, {"a": u}, signature="one"),
    ]


@scenario
def devices_are_those_of_the_call(client):
    with tf.device("/device:CPU:0"):
        module = client.made_module("counting")
    with tf.device("/device:CPU:1"):
        output = module([1.0])
        second = client.made_module("counting")
    return [module.variables[0].device, output.device, second.variables[0].device]


@scenario
def modules_work_in_branches_and_loops(client):
    pred = tf.placeholder(tf.bool)
    result = []
    for name, variable in (("colocated", "first"), ("counting", "total")):
        module = client.made_module(name, name=name, trainable=True)
        one = [1.0] if name == "counting" else 1.0

        def body(i, x, module=module):
            y = module(x)
            result.append([y.name, groups(y)])
            return i + 1, y

        def branch(module=module, one=one):
            y = module(one)
            result.append([y.name, groups(y)])
            return y

        loop = tf.while_loop(lambda i, x: i < 3, body, [0, tf.constant(one)])[1]
        cond = tf.cond(pred, branch, lambda one=one: tf.constant(one))
        slope = tf.gradients(loop, [module.variable_map[variable]])
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            for value in (True, False):
                fetched = session.run([loop, cond, slope], {pred: value})
                result.append([np.asarray(part).tolist() for part in fetched])
    return result


@scenario
def modules_are_made_in_branches_and_loops(client):
    pred = tf.placeholder(tf.bool)
    cond = tf.cond(pred, lambda: client.made_module("colocated")(1.0), lambda: 0.0)

    def body(x):
        return client.made_module("colocated")(x)

    loop = tf.while_loop(lambda x: x < 3, body, [0.0])
    with tf.control_dependencies([tf.Assert(tf.constant(False), ["never run"])]):
        third = client.made_module("counting")
    return [
        run([cond, loop], {pred: True}),
        names(tf.global_variables()),
        run(third.variables[-1]),
    ]


@scenario
def savers_see_the_variables_by_their_scope(client):
    with tf.variable_scope("model"):
        client.module("partitioned")
        client.made_module("counting", name="counter")
    path = str(client.made / "checkpoint" / "of")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, path)
    found = sorted((name, list(shape)) for name, shape in tf.train.list_variables(path))
    with tf.Graph().as_default(), tf.variable_scope("model"):
        module = client.made_module("counting", name="counter")
        with tf.Session() as session:
            session.run(tf.assign(module.variable_map["total"], 0.0))
            tf.train.Saver().restore(session, path)
            return found, float(session.run(module.variable_map["total"]))


@scenario
def fine_tuning_goes_the_same_way(client):
    module = client.made_module("counting", trainable=True)
    loss = tf.reduce_mean(tf.square(module([1.0, 2.0, 3.0]) - 1.0))
    loss += tf.losses.get_regularization_loss()
    step = tf.train.get_or_create_global_step()
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train = tf.train.AdamOptimizer(0.1).minimize(loss, global_step=step)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        losses = [float(session.run([train, loss])[1]) for _ in range(5)]
        return losses, [float(value) for value in session.run(module.variables)]


@scenario
def maps_of_variables_are_maps_of_assignments(client):
    prefix = str(client.made / "counting" / "variables" / "variables")
    module = client.made_module("counting")
    tf.train.init_from_checkpoint(prefix, {"total": module.variable_map["total"]})
    return run(module.variables)


def main(library, modules, made, out):
    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    hub, modules, made = importlib.import_module(library), Path(modules), Path(made)
    if library == "tensorflow_hub":
        make(hub, made)
    results = {}
    for name, function in SCENARIOS.items():
        with tf.Graph().as_default():
            results[name] = function(Client(hub, modules, made))
    Path(out).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
