"""Modules in graphs: what `tf.compat.v1` programs, with their scopes and collections, expect."""
