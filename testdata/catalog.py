"""The list of the test modules: how each one is made and what it is fed."""

import collections

import digits_data
import graph_fns
import image_fns
import numpy as np
import tensorflow as tf
import text_fns
import train_digits

Case = collections.namedtuple("Case", "make_spec build inputs assets training")
Case.__doc__ = """One module.

Attributes:
    make_spec: A function that returns the `hub.ModuleSpec`; its variables get seeded values.
    build: Instead of it, a function that writes the module itself and returns facts about it.
    inputs: A function that returns input values by input name.
    assets: The asset files that `make_spec` expects in the current folder, text by path.
    training: Whether gradients and training steps are recorded.
"""


def _case(make_spec=None, build=None, inputs=dict, assets=None, training=True):
    """Returns a `Case` with defaults."""
    return Case(make_spec, build, inputs, assets or {}, training)


def _digit_images():
    """Returns held-out digits as input."""
    return {"images": digits_data.load()[2][:4]}


def _texts():
    """Returns texts: plain, with punctuation, with unknown words, empty, not ASCII."""
    return {
        "text": [
            b"the cat sat",
            b"The dog, the bird!",
            b"zebra the quagga",
            b"",
            b"\xc3\xbcber dog",
        ]
    }


def _words():
    """Returns words with and without an entry in the tables."""
    return {"words": [b"cat", b"bird", b"unheard-of", b"fish"], "ids": np.array([3, 0, 7, 2])}


def _ids():
    """Returns ids in all parts of a partitioned embedding of 11 rows."""
    return {"ids": np.array([0, 10, 4, 7, 3])}


def _sparse():
    """Returns sparse inputs (the second row is one long) and texts to split."""
    indices = np.array([[0, 0], [0, 2], [1, 1], [2, 0], [2, 1]], np.int64)
    shape = np.array([3, 4], np.int64)
    weights = np.array([0.5, 1.25, 2.0, 0.75, 3.0], np.float32)
    return {
        "ids": tf.SparseTensorValue(indices, np.array([1, 8, 0, 4, 4], np.int64), shape),
        "weights": tf.SparseTensorValue(indices, weights, shape),
        "text": [b"one two", b"", b"three"],
    }


def _ragged():
    """Returns rows of ids of different lengths."""
    return {"ids": tf.compat.v1.ragged.constant_value([[1, 8, 0], [4], [4, 2]], dtype=np.int64)}


def _flow():
    """Returns features for one branch without and for the other branch with training."""
    steps = np.arange(20, dtype=np.float32).reshape(5, 4) ** 2 % 7
    return {
        "default/features": steps / 4,
        "flagged/features": (steps - 4) / 4,
        "training": np.array(True),
    }


_ASSETS = {
    text_fns.ENGLISH_FILE: "cat\ndog\nbird\nfish\n",
    text_fns.FRENCH_FILE: "chat\nchien\noiseau\npoisson\n",
}
_VOCABULARY = {text_fns.VOCABULARY_FILE: "the\ncat\nsat\non\nmat\ndog\nbird\nThe\na\n\u00fcber\n"}

CASES = collections.OrderedDict(
    toy_image_resource=_case(lambda: image_fns.toy_spec(use_resource=True)),
    toy_image_ref=_case(lambda: image_fns.toy_spec(use_resource=False)),
    toy_train_nodropout_resource=_case(lambda: image_fns.toy_spec(True, dropout=False)),
    toy_train_nodropout_ref=_case(lambda: image_fns.toy_spec(False, dropout=False)),
    digits=_case(build=train_digits.build, inputs=_digit_images, training=False),
    text_vocab=_case(text_fns.text_vocab_spec, inputs=_texts, assets=_VOCABULARY),
    no_variables=_case(graph_fns.no_variables_spec),
    partitioned=_case(lambda: graph_fns.partitioned_spec(False), inputs=_ids),
    partitioned_resource=_case(lambda: graph_fns.partitioned_spec(True), inputs=_ids),
    own_tags=_case(graph_fns.own_tags_spec),
    single_tag=_case(graph_fns.single_tag_spec),
    multi_variant=_case(graph_fns.multi_variant_spec),
    assets_many=_case(text_fns.assets_many_spec, inputs=_words, assets=_ASSETS),
    multi_input=_case(graph_fns.multi_input_spec),
    no_default_signature=_case(graph_fns.no_default_signature_spec),
    sparse_input=_case(text_fns.sparse_input_spec, inputs=_sparse),
    ragged_input=_case(text_fns.ragged_input_spec, inputs=_ragged),
    control_flow_ref=_case(lambda: graph_fns.control_flow_spec(False), inputs=_flow),
    control_flow_resource=_case(lambda: graph_fns.control_flow_spec(True), inputs=_flow),
    rnn=_case(graph_fns.rnn_spec),
    unused_variable=_case(graph_fns.unused_variable_spec),
    reduced_precision=_case(lambda: graph_fns.reduced_precision_spec(use_resource=True)),
    reduced_precision_ref=_case(lambda: graph_fns.reduced_precision_spec(use_resource=False)),
)
