"""Modules that compute at once: what `hub.Module` is outside of graphs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.conversion import Converted, convert
from bridge.hub.errors import ArgumentTypeError, ArgumentValueError, CallRuntimeError
from bridge.hub.export import write_module
from bridge.hub.info import ParsedTensorInfo
from bridge.hub.inputs import check_supported, chosen_outputs, refuse_second, signature_inputs
from bridge.hub.keras_layers import as_layer, layer_class, symbolic_family
from bridge.hub.spec import ModuleSpec
from bridge.model import SaveSlice, Tags, format_tags

_made_inside: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
"""What functions have made, by their graphs, which only hold weak references to variables."""


class EagerModule(tf.Module):  # type: ignore[misc]
    """An instance of a module, with variables of its own, that computes when it is called.

    It is a `tf.Module`: as an attribute of another one, or of a layer of tf_keras, its variables
    belong to that too, and `tf.train.Checkpoint` and `tf.saved_model.save` take it. A layer of
    Keras 3 knows variables of Keras only; there `as_layer` gives it one.

    It also is what `hub.KerasLayer` takes: `variables`, `trainable_variables`, and
    `regularization_losses`, functions without arguments that give one loss each. `losses` is what
    they give now. Add them to what is minimized, as one did with the collection
    REGULARIZATION_LOSSES; without `trainable=True` there are none.

    The update ops of the variant (batch norm's moving averages) run with each call, if the module
    is trainable; there is no collection UPDATE_OPS to forget.
    """

    _TF_MODULE_IGNORED_PROPERTIES = frozenset(
        {*tf.Module._TF_MODULE_IGNORED_PROPERTIES, "_converted", "_layers", "_spec", "tags"}
    )

    _spec: ModuleSpec
    tags: Tags
    _converted: Converted
    _layers: dict[Any, Any]

    def __init__(
        self,
        spec: ModuleSpec,
        trainable: bool = False,
        name: str = "module",
        tags: Iterable[str] | None = None,
    ):
        """Makes an instance.

        Args:
          spec: the module.
          trainable: whether its variables are trained, its losses given, its update ops run.
          name: what `name` returns, as far as it can be a name in Python.
          tags: tags of the graph variant; none for the variant without tags.

        Raises:
          ValueError: there is no such variant, or the module can't be used in TensorFlow 2.
        """
        super().__init__(name=_python_name(name))
        self.trainable = bool(trainable)
        # Past tf.Module's bookkeeping: a spec is no state, and layers hold this very module.
        object.__setattr__(self, "_spec", spec)
        object.__setattr__(self, "tags", spec._checked_tags(tags))
        object.__setattr__(self, "_layers", {})
        # A function that makes a module makes it once, when it is traced; every call uses it.
        with tf.init_scope():
            converted = convert(spec, self.tags, trainable=self.trainable)
            self._loaded = _load(os.fspath(converted.directory))
        if tf.inside_function():
            _made_inside.setdefault(tf.compat.v1.get_default_graph(), []).append(self._loaded)
        self._variables = list(self._loaded.variables)
        object.__setattr__(self, "_converted", converted)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(
        self,
        inputs: Any = None,
        _sentinel: None = None,
        signature: str | None = None,
        as_dict: bool | None = None,
    ) -> Any:
        """Computes a signature.

        Args:
          inputs: a dictionary of tensors by input name, or the tensor where there is one input;
            dense, sparse or ragged, or what can be made a tensor. Inputs of a Keras model, of
            Keras 3 or tf_keras, give outputs of a Keras model.
          _sentinel: takes nothing: what follows is given by name.
          signature: name of the signature; `default` if there is none.
          as_dict: return the dictionary of all outputs, not the output `default` alone.

        Raises:
          TypeError: the inputs do not fit, or there is no output `default`.
          ValueError: there is no such signature. The error is a KeyError too.
          RuntimeError: it is called where a graph of TensorFlow 1 is built.
        """
        refuse_second(_sentinel)
        family = symbolic_family(inputs)
        if family is not None:
            return self.as_layer(family)(inputs, signature=signature, as_dict=as_dict)
        if not tf.executing_eagerly() and not tf.inside_function():
            raise CallRuntimeError(
                "the module was made outside of the graph that it is called in",
                hint="make it inside `with tf.Graph().as_default():` too",
            )
        name = self._spec._checked_signature(signature, self.tags)
        where = Where(self._spec._directory, format_tags(self.tags), name)
        values = signature_inputs(inputs, self.get_input_info_dict(name), where)
        outputs = self.get_output_info_dict(name)
        check_supported(outputs, "output", where)
        chosen_outputs(outputs, as_dict, where)  # refuses before anything is computed
        function = getattr(self._loaded, self._converted.callables[name])
        arguments = [values] if values else []
        return function(*arguments, training=self.trainable, return_endpoints=bool(as_dict))

    # -- what is known of it ---------------------------------------------------------------------

    def get_signature_names(self) -> list[str]:
        """Returns the names of the signatures."""
        return self._spec.get_signature_names(tags=self.tags)

    def get_input_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature takes, as `ModuleSpec.get_input_info_dict` does."""
        return self._spec.get_input_info_dict(signature=signature, tags=self.tags)

    def get_output_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature returns, as `ModuleSpec.get_output_info_dict` does."""
        return self._spec.get_output_info_dict(signature=signature, tags=self.tags)

    def get_attached_message(
        self, key: str, message_type: type[Any], required: bool = False
    ) -> Any:
        """Returns an attached message, as `ModuleSpec.get_attached_message` does."""
        return self._spec.get_attached_message(key, message_type, tags=self.tags, required=required)

    # -- state -----------------------------------------------------------------------------------

    @property
    def variable_map(self) -> dict[str, Any]:
        """The variables by their names in the module; of a partitioned one, the list of parts."""
        whole: dict[str, Any] = {}
        for (name, place), variable in self._named():
            if place is None:
                whole[name] = variable
            else:
                whole.setdefault(place.full_name, []).append((place.var_offset, variable))
        return {
            name: [part for _, part in sorted(value, key=itemgetter(0))]
            if isinstance(value, list)
            else value
            for name, value in whole.items()
        }

    @property
    def variables(self) -> list[Any]:
        """All variables, by their names in the module."""
        found: list[Any] = []
        for _, value in sorted(self.variable_map.items()):
            found += value if isinstance(value, list) else [value]
        return found

    @property
    def regularization_losses(self) -> list[Any]:
        """Functions without arguments, one for each regularization loss."""
        return list(self._loaded.regularization_losses)

    @property
    def losses(self) -> list[Any]:
        """The regularization losses as tensors, computed from the variables as they are now."""
        return [loss() for loss in self.regularization_losses]

    def as_layer(self, keras: Any = None) -> Any:
        """Returns this module as a layer of Keras, whose weights are the module's variables.

        Args:
          keras: the package `keras` (3) or `tf_keras` that the model is built with; `tf.keras` if
            there is none.

        Returns:
          Always the same layer for the same Keras; it takes what this module takes.
        """
        family = tf.keras if keras is None else keras
        key = layer_class(family)
        if key not in self._layers:
            self._layers[key] = as_layer(self, family)
        return self._layers[key]

    def export(self, path: str | os.PathLike[str], session: None = None) -> None:
        """Writes the module, with its variables as they are now, as a TF1 Hub module.

        Args:
          path: directory to make.
          session: None. Outside of a graph there is no session to take values from.

        Raises:
          TypeError: a session is given.
          RuntimeError: another variant has variables that this one does not have.
          HubBridgeError: the module can't be written, as `ModuleSpec.export` says.
        """
        if session is not None:
            raise ArgumentTypeError(
                "the module holds its variables itself, and takes no session",
                hint="call module.export(path), or make the module in the session's graph",
            )
        write_module(self._spec, path, self._save)

    def _save(self, checkpoint: str) -> None:
        """Writes a checkpoint as tf.train.Saver does, parts of partitioned variables as slices."""
        names, places, values = [], [], []
        for (name, place), variable in self._named():
            names.append(name if place is None else place.full_name)
            places.append("" if place is None else _slice_text(place))
            values.append(variable.read_value())
        tf.raw_ops.SaveV2(
            prefix=checkpoint, tensor_names=names, shape_and_slices=places, tensors=values
        )

    def _named(self) -> Iterable[tuple[tuple[str, SaveSlice | None], Any]]:
        return zip(self._converted.variables, self._variables, strict=True)


def _load(directory: str) -> Any:
    """Loads a SavedModel as outside of any function, also while one is built."""
    if not tf.inside_function():
        return tf.saved_model.load(directory)
    # tf.init_scope leaves the function, but not what it does to variables that are made meanwhile:
    # tf.compat.v1.wrap_function lists them in its collections. Another thread knows nothing of it.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(tf.saved_model.load, directory).result()


def _slice_text(place: SaveSlice) -> str:
    """Prints a slice as the op SaveV2 reads it: `10 4 0,3:0,4`."""
    parts = zip(place.var_offset, place.var_shape, strict=True)
    ranges = ":".join(f"{offset},{size}" for offset, size in parts)
    return " ".join([*map(str, place.full_shape), ranges])


def _python_name(name: str) -> str:
    """Returns the name with `_` in the place of what a tf.Module's name can't have."""
    if not name:
        raise ArgumentValueError("the name of a module is empty")
    return re.sub(r"\W", "_", re.sub(r"^(?=\d)", "_", name), flags=re.ASCII)
