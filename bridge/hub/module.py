"""Module: a part of a TensorFlow program that was published on its own."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Iterable
from typing import Any

from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError
from bridge.hub.info import ParsedTensorInfo
from bridge.hub.loading import as_module_spec
from bridge.hub.spec import ModuleSpec
from bridge.model import Tags


class Module(ABC):
    """An instance of a module: its variables and tables, and signatures to compute with them.

        module = hub.Module("/tmp/text-embedding")
        embeddings = module(["a long sentence", "single-word"])

    In a graph (`tf.compat.v1` programs, `with tf.Graph().as_default()`) making it adds to that:

    - its variables under a variable scope of their own, in the collections GLOBAL_VARIABLES and
      MODEL_VARIABLES and, where it is trainable, TRAINABLE_VARIABLES. Their initializers give the
      module's values;
    - the initializers of its tables to TABLE_INITIALIZERS, and assets to ASSET_FILEPATHS;
    - where it is trainable, the losses of its regularizers to REGULARIZATION_LOSSES.

    Where TensorFlow executes eagerly, an `EagerModule` is made, which computes when it is called.
    """

    def __new__(
        cls,
        spec: ModuleSpec | str | os.PathLike[str],
        trainable: bool = False,
        name: str = "module",
        tags: Iterable[str] | None = None,
    ) -> Any:
        """Makes an instance, as the program is: in the graph, or of what computes at once.

        Args:
          spec: the module: a ModuleSpec, or the path or handle to load it from.
          trainable: whether its variables are to be trained.
          name: the variable scope to make for it; a number is added if it is used.
          tags: the tags of the graph variant; none for the variant without tags.

        Raises:
          RuntimeError: there is a name scope `name` already that no variable scope belongs to.
          ValueError: there is no such graph variant, or the module is broken.
          tf.errors.OpError: the module can't be read, or has an op that TensorFlow does not know.
        """
        from bridge.hub.graph_module import GraphModule

        if cls not in (Module, GraphModule):
            raise ArgumentTypeError(
                f"{cls.__name__} is derived from Module, which makes instances of other classes",
                hint="keep a Module in an attribute",
            )
        with tf.init_scope():
            eager = tf.executing_eagerly()
        if not eager:
            return super().__new__(GraphModule)
        from bridge.hub.eager_module import EagerModule

        Module.register(EagerModule)
        return EagerModule(as_module_spec(spec), trainable, name, tags)

    _spec: ModuleSpec
    name: str
    """The last part of the name of the variables' scope."""
    tags: Tags
    """The tags of the graph variant."""
    trainable: bool
    """Whether its variables are to be trained."""

    def __call__(
        self,
        inputs: Any = None,
        _sentinel: None = None,
        signature: str | None = None,
        as_dict: bool | None = None,
    ) -> Any:
        """Applies a signature. All applications share the module's variables and tables.

        In a graph, a module that is trainable adds to the collection UPDATE_OPS what training must
        run, such as updates of moving averages, for each application.

        Args:
          inputs: what the signature takes: a dictionary of tensors, or of what can be made tensors,
            by name of the input; the value alone if there is one input; nothing if there is none.
            Sparse and ragged tensors are given where the signature takes them.
          _sentinel: takes nothing: what follows is given by name.
          signature: its name; `default` if there is none.
          as_dict: whether to return a dictionary of all outputs, and not the one called `default`.

        Raises:
          TypeError: the inputs do not fit, or there is no output `default`.
          KeyError: there is no such signature. The error is a ValueError too.
          RuntimeError: the module belongs to another graph.
        """
        raise NotImplementedError

    @property
    def variables(self) -> list[Any]:
        """All variables, sorted by name in the module."""
        raise NotImplementedError

    @property
    def trainable_variables(self) -> list[Any]:
        """Those of the variables that are to be trained."""
        raise NotImplementedError

    @property
    def variable_map(self) -> dict[str, Any]:
        """The variables by name in the module; of a partitioned one, the list of its parts.

        It is what `tf.compat.v1.train.init_from_checkpoint` takes as a map of assignments.
        """
        raise NotImplementedError

    def export(self, path: str | os.PathLike[str], session: Any) -> None:
        """Writes the module to disk as it was published, with the variables' present values.

        Args:
          path: directory to make.
          session: the session that has the values. Where TensorFlow executes eagerly, it is None.

        Raises:
          RuntimeError: the session, or the default graph, is not that of the module.
          UnsupportedError: the module has an op or attribute that TensorFlow 1.15 does not know.
          DestinationError: something is at `path` already, or it can't be written.
        """
        raise NotImplementedError

    def get_signature_names(self) -> list[str]:
        """Returns the names of the signatures."""
        return self._spec.get_signature_names(self.tags)

    def get_input_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature takes, see `ModuleSpec.get_input_info_dict`."""
        return self._spec.get_input_info_dict(signature, self.tags)

    def get_output_info_dict(self, signature: str | None = None) -> dict[str, ParsedTensorInfo]:
        """Describes what a signature returns, see `ModuleSpec.get_output_info_dict`."""
        return self._spec.get_output_info_dict(signature, self.tags)

    def get_attached_message(
        self, key: str, message_type: type[Any], required: bool = False
    ) -> Any:
        """Returns a message attached to the module, see `ModuleSpec.get_attached_message`."""
        return self._spec.get_attached_message(key, message_type, self.tags, required)
