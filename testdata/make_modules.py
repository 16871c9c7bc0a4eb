"""Writes the test modules with the legacy client, and the goldens that it computes from them.

Runs in the TF 1.15 interpreter:

    CUDA_VISIBLE_DEVICES= python testdata/make_modules.py OUT_DIR [names...]

It writes `OUT_DIR/modules/<name>/`, `OUT_DIR/golden/<name>.npz` and `OUT_DIR/golden/<name>.json`;
without names, for all modules of `catalog.py`.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import tempfile

import catalog
import golden
import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import values

_INNERMOST = re.compile(r"[\[{][^\[\]{}]*[\]}]")  # Lists and dicts that fit on one line.


@contextlib.contextmanager
def _asset_folder(assets):
    """Writes asset files to a temporary folder that is the current one within the context.

    Their names are relative, since the names of tables contain the names of their files.
    """
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for name, text in assets.items():
                os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
                with open(name, "w", encoding="utf-8") as file:
                    file.write(text)
            yield
        finally:
            os.chdir(before)


def _export_seeded(spec, path):
    """Exports a module whose variables have the seeded values."""
    tags = min(spec.get_tags(), key=len)
    with tf.Graph().as_default(), tf.Session(config=golden.session_config()) as session:
        module = hub.Module(spec, tags=tags, name=golden.SCOPE[:-1])
        session.run(tf.global_variables_initializer())
        values.assign_variables(session, module.variables, golden.SCOPE)
        module.export(path, session)


def make_module(case, path):
    """Makes one module.

    Args:
        case: A `catalog.Case`.
        path: The directory to write; an old one is removed.

    Returns:
        A dict of facts for the golden JSON.
    """
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with _asset_folder(case.assets):
        if case.build:
            return case.build(path)
        _export_seeded(case.make_spec(), path)
        return {}


def write_golden(arrays, facts, prefix):
    """Writes `<prefix>.npz` and `<prefix>.json`."""
    os.makedirs(os.path.dirname(prefix), exist_ok=True)
    np.savez_compressed(f"{prefix}.npz", **dict(sorted(arrays.items())))
    with open(f"{prefix}.json", "w", encoding="utf-8") as file:
        text = json.dumps(facts, indent=1, sort_keys=True)
        file.write(_INNERMOST.sub(lambda match: " ".join(match.group().split()), text) + "\n")


def main():
    """Makes the modules that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(catalog.CASES))
    args = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    out_dir = os.path.abspath(args.out_dir)
    for name in args.names or catalog.CASES:
        case = catalog.CASES[name]
        path = os.path.join(out_dir, "modules", name)
        extra = make_module(case, path)
        arrays, facts = golden.record(path, case.inputs(), case.training)
        facts["extra"] = extra
        write_golden(arrays, facts, os.path.join(out_dir, "golden", name))
        print(f"{name}: {len(arrays)} arrays {extra or ''}")


if __name__ == "__main__":
    main()
