"""Trains the digits module as a client of TF1 Hub would, and exports it."""

import digits_data
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from golden import session_config
from image_fns import digits_spec

EPOCHS = 25
BATCH = 64
LEARNING_RATE = 0.005


def _training_op(module, images, labels):
    """Returns the op of one training step, batch norm's updates included."""
    logits = module({"images": images}, signature="image_classification")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    loss += tf.add_n(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        return tf.train.AdamOptimizer(LEARNING_RATE).minimize(loss)


def _train_and_export(path):
    """Trains the {"train"} variant on the training part and exports the module."""
    train_images, train_labels, _, _ = digits_data.load()
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        tf.set_random_seed(7)
        module = hub.Module(digits_spec(), trainable=True, tags={"train"})
        images = tf.placeholder(tf.float32, [None, 16, 16, 3])
        labels = tf.placeholder(tf.int64, [None])
        step = _training_op(module, images, labels)
        session.run(tf.global_variables_initializer())
        random = np.random.RandomState(7)
        for _ in range(EPOCHS):
            order = random.permutation(len(train_labels))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                session.run(step, {images: train_images[rows], labels: train_labels[rows]})
        module.export(path, session)


def _test_accuracy(path):
    """Returns the accuracy of the exported module on the held-out part."""
    _, _, test_images, test_labels = digits_data.load()
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        module = hub.Module(path)
        images = tf.placeholder(tf.float32, [None, 16, 16, 3])
        logits = module(images)
        session.run(tf.global_variables_initializer())
        scores = session.run(logits, {images: test_images})
    return float(np.mean(np.argmax(scores, axis=1) == test_labels))


def build(path):
    """Makes the trained module at `path`.

    Args:
        path: The directory to write, which must not exist.

    Returns:
        A dict of facts for the module's golden JSON.

    Raises:
        RuntimeError: If the net has not learned.
    """
    _train_and_export(path)
    accuracy = _test_accuracy(path)
    if accuracy <= 0.95:
        raise RuntimeError(f"Test accuracy {accuracy:.4f} is too low.")
    return {"test_accuracy": accuracy, "test_images": len(digits_data.load()[3])}
