"""Module functions with text, tables, assets, sparse and ragged tensors.

Asset files are named relative to the current folder; `catalog.py` has their contents.
"""

import tensorflow as tf
import tensorflow_hub as hub

VOCABULARY_FILE = "vocabulary.txt"
ENGLISH_FILE = "english/words.txt"
FRENCH_FILE = "french/words.txt"


def text_vocab_spec():
    """Returns a text embedding: split, look up in a vocabulary asset, mean of embeddings.

    Words outside of the vocabulary go to hash buckets. Reference variables.
    """

    def module_fn():
        text = tf.placeholder(tf.string, [None], name="text")
        words = tf.string_split(tf.strings.regex_replace(text, "[[:punct:]]", ""))
        table = tf.contrib.lookup.index_table_from_file(VOCABULARY_FILE, num_oov_buckets=2)
        ids = tf.sparse_fill_empty_rows(table.lookup(words), 0)[0]
        with tf.variable_scope("Text", use_resource=False):
            embedding = tf.get_variable("embedding", [12, 6])
            vectors = tf.nn.embedding_lookup_sparse(embedding, ids, None, combiner="mean")
        hub.add_signature(inputs={"text": text}, outputs={"default": vectors})

    return hub.create_module_spec(module_fn)


def _file_tables():
    """Returns tables on two files of the same base name.

    The English file is the asset of two tables by two constants, the French one by one constant.
    """
    french = tf.constant(FRENCH_FILE, name="french_file")
    word = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE)
    number = (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
    to_word = tf.lookup.TextFileInitializer(french, *number, *word)
    to_id = tf.lookup.TextFileInitializer(french, *word, *number)
    return {
        "english_ids": tf.contrib.lookup.index_table_from_file(ENGLISH_FILE, num_oov_buckets=1),
        "english_words": tf.contrib.lookup.index_to_string_table_from_file(ENGLISH_FILE),
        "french_words": tf.lookup.StaticHashTable(to_word, "inconnu"),
        "french_ids": tf.lookup.StaticHashTable(to_id, -1),
    }


def assets_many_spec():
    """Returns a module with several tables, two asset files and a table made from tensors."""

    def module_fn():
        tables = _file_tables()
        weights = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["cat", "dog", "bird"], [0.25, -1.5, 3.0]), 0.125
        )
        words = tf.placeholder(tf.string, [None], name="words")
        ids = tables["english_ids"].lookup(words)
        french = tables["french_words"].lookup(ids)
        embedding = tf.get_variable("embedding", [5, 3])
        vectors = tf.nn.embedding_lookup(embedding, ids)
        vectors *= tf.expand_dims(weights.lookup(words), -1)
        outputs = {
            "default": vectors,
            "ids": ids,
            "french": french,
            "french_ids": tables["french_ids"].lookup(french),
        }
        hub.add_signature(inputs={"words": words}, outputs=outputs)
        numbers = tf.placeholder(tf.int64, [None], name="numbers")
        hub.add_signature(
            "words_of_ids",
            inputs={"ids": numbers},
            outputs={
                "default": tables["english_words"].lookup(numbers),
                "french": tables["french_words"].lookup(numbers),
            },
        )

    return hub.create_module_spec(module_fn)


def sparse_input_spec():
    """Returns a module with sparse inputs and, in other signatures, sparse outputs."""

    def module_fn():
        ids = tf.sparse_placeholder(tf.int64, [None, None], name="ids")
        weights = tf.sparse_placeholder(tf.float32, [None, None], name="weights")
        embedding = tf.get_variable("embedding", [9, 4])
        vectors = tf.nn.embedding_lookup_sparse(embedding, ids, weights, combiner="mean")
        hub.add_signature(inputs={"ids": ids, "weights": weights}, outputs=vectors)
        scale = tf.get_variable("scale", [])
        scaled = tf.SparseTensor(weights.indices, weights.values * scale, weights.dense_shape)
        hub.add_signature("scaled", {"weights": weights}, {"default": scaled})
        text = tf.placeholder(tf.string, [None], name="text")
        words = tf.string_split(text)
        outputs = {"default": words, "lengths": tf.strings.length(text)}
        hub.add_signature("words", {"text": text}, outputs)

    return hub.create_module_spec(module_fn)


def ragged_input_spec():
    """Returns a module with a ragged input and, in another signature, a ragged output."""

    def module_fn():
        ids = tf.ragged.placeholder(tf.int64, 1, [], name="ids")
        embedding = tf.get_variable("embedding", [9, 4])
        vectors = tf.nn.embedding_lookup(embedding, ids.values)
        sums = tf.segment_sum(vectors, ids.value_rowids())
        hub.add_signature(inputs={"ids": ids}, outputs={"default": sums})
        scores = ids.with_values(tf.reduce_sum(vectors, axis=-1))
        hub.add_signature("scores", {"ids": ids}, {"default": scores})

    return hub.create_module_spec(module_fn)
