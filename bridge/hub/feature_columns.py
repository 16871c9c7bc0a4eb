"""Modules as feature columns.

A column goes into `tf.compat.v1.feature_column.input_layer` and `linear_model`, and into
`DenseFeatures` of tf_keras. Keras 3 has no layer for feature columns.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# No column of one's own can be made without these: the old functions ask for a `_DenseColumn`, and
# the public name of the other class is `tf.__internal__`.
from tensorflow.python.feature_column import feature_column as columns_v1
from tensorflow.python.feature_column import feature_column_v2 as columns_v2

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentValueError
from bridge.hub.images import get_expected_image_size
from bridge.hub.loading import as_module_spec
from bridge.hub.module import Module
from bridge.hub.spec import ModuleSpec
from bridge.model import DEFAULT

_RESOURCE = "module"


def text_embedding_column(key: Any, module_spec: Any, trainable: bool = False) -> Any:
    """Returns a column that turns a text into a vector with a module.

    The module's signature `default` takes a vector of strings and returns float32 `[?, N]`.

    Args:
      key: name of the feature, or a column that yields it: a string for each example.
      module_spec: a ModuleSpec, or what `load_module_spec` takes.
      trainable: whether the module's variables are trained, as the other variables are.

    Raises:
      ValueError: the module is none for a text.
    """
    return TextEmbeddingColumn(key, module_spec, trainable)


def image_embedding_column(
    key: Any, module_spec: Any, image_size: Iterable[int] | None = None
) -> Any:
    """Returns a column that turns an image into a vector with a module, which is not trained.

    The module's signature `default` takes float32 `images` and returns float32 `[?, N]`.

    Args:
      key: name of the feature, or a column that yields it: float32 `[height, width, 3]` for each
        example, RGB in [0, 1].
      module_spec: a ModuleSpec, or what `load_module_spec` takes.
      image_size: height and width of the images, if they are not those that the module expects; not
        every module takes others.

    Raises:
      ValueError: the module is none for images.
    """
    size = None if image_size is None else tuple(image_size)
    return ImageEmbeddingColumn(key, module_spec, size)


@dataclass(frozen=True)
class _ModuleColumn(columns_v1._DenseColumn, columns_v2.DenseColumn):  # type: ignore[misc]
    """What both columns have. The names with an underscore are what `input_layer` asks.

    Attributes:
      key: name of the feature, or the column that yields it.
      module_spec_path: the module as the caller gave it.
      module_spec: the module.
    """

    key: Any
    module_spec_path: Any
    module_spec: ModuleSpec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "module_spec", as_module_spec(self.module_spec_path))
        issues = [*self._input_issues(), *self._output_issues()]
        if issues:
            raise ArgumentValueError(
                f"no module for this column: {'; '.join(issues)}",
                where=Where(self.module_spec._directory, signature=DEFAULT),
                hint="apply the module to the feature yourself, and give the column the result",
            )

    @abstractmethod
    def _input_issues(self) -> list[str]:
        """Returns what keeps the signature `default` from taking the feature."""

    def _output_issues(self) -> list[str]:
        """Returns what keeps the signature `default` from giving a vector for each example."""
        info = self.module_spec.get_output_info_dict().get(DEFAULT)
        if info is None:
            return [f"it has no output {DEFAULT!r}"]
        if info.dtype == tf.float32 and info.get_shape().rank == 2 and info.get_shape()[1]:
            return []
        return [f"it returns {info}, and not float32 of shape [?, N]"]

    @abstractmethod
    def _feature_spec(self) -> Any:
        """Returns how the feature is parsed from a tf.train.Example."""

    @abstractmethod
    def _apply(self, module: Module, feature: Any) -> Any:
        """Returns the vectors for a batch of the feature."""

    def _is_trainable(self) -> bool:
        """Returns whether the module's variables are trained, where the layer's own are."""
        return False

    # -- what every feature column has ------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the column, by which layers sort and name their columns."""
        key = self.key if isinstance(self.key, str) else self.key.name
        return f"{key}_hub_module_embedding"

    @property
    def parents(self) -> list[Any]:
        """What the column is computed from."""
        return [self.key]

    @property
    def parse_example_spec(self) -> dict[str, Any]:
        """How the features that it needs are parsed from a tf.train.Example, by their names."""
        if isinstance(self.key, str):
            return {self.key: self._feature_spec()}
        return dict(self.key.parse_example_spec)

    @property
    def variable_shape(self) -> Any:
        """The tf.TensorShape of the vector of one example."""
        return self.module_spec.get_output_info_dict()[DEFAULT].get_shape()[1:]

    @property
    def _is_v2_column(self) -> bool:
        return True

    # -- DenseFeatures ---------------------------------------------------------------------------

    def transform_feature(self, transformation_cache: Any, state_manager: Any) -> Any:
        """Returns the feature as it comes."""
        return transformation_cache.get(self.key, state_manager)

    def create_state(self, state_manager: Any) -> None:
        """Makes the instance of the module that belongs to a layer."""
        # Layers hand down in no other way whether they are trainable.
        trainable = bool(self._is_trainable() and state_manager._trainable)
        module = Module(self.module_spec, trainable=trainable)
        state_manager.add_resource(self, _RESOURCE, module)

    def get_dense_tensor(self, transformation_cache: Any, state_manager: Any) -> Any:
        """Returns the vectors of a batch, float32 `[batch_size, N]`."""
        module = state_manager.get_resource(self, _RESOURCE)
        return self._apply(module, transformation_cache.get(self, state_manager))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the column, for `from_config`.

        Raises:
          NotImplementedError: the module was given as a ModuleSpec, which no configuration holds.
        """
        if isinstance(self.module_spec_path, ModuleSpec):
            raise NotImplementedError(
                "a feature column has a configuration only where its module is given by its path"
            )
        config = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return config | {"key": tf.__internal__.feature_column.serialize_feature_column(self.key)}

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Any = None,
        columns_by_name: Any = None,
    ) -> Any:
        """Returns the column that a configuration is of."""
        internal = tf.__internal__.feature_column
        key = internal.deserialize_feature_column(config["key"], custom_objects, columns_by_name)
        return cls(**{**config, "key": key})

    # -- input_layer and linear_model --------------------------------------------------------------

    @property
    def _parse_example_spec(self) -> dict[str, Any]:
        return self.parse_example_spec

    @property
    def _variable_shape(self) -> Any:
        return self.variable_shape

    def _transform_feature(self, inputs: Any) -> Any:
        return inputs.get(self.key)

    def _get_dense_tensor(
        self, inputs: Any, weight_collections: Any = None, trainable: bool | None = None
    ) -> Any:
        del weight_collections  # a module adds its variables to the collections itself
        module = Module(self.module_spec, trainable=bool(self._is_trainable() and trainable))
        return self._apply(module, inputs.get(self))


@dataclass(frozen=True)
class TextEmbeddingColumn(_ModuleColumn):
    """What `text_embedding_column` returns.

    Attributes:
      trainable: whether the module's variables are trained.
    """

    trainable: bool

    def _is_trainable(self) -> bool:
        return self.trainable

    def _input_issues(self) -> list[str]:
        infos = list(self.module_spec.get_input_info_dict().values())
        if (
            len(infos) == 1
            and infos[0].dtype == tf.string
            and infos[0].get_shape().rank == 1
            and infos[0].get_shape().as_list() == [None]
        ):
            return []
        return [f"it takes {infos}, and not one vector of strings of any length"]

    def _feature_spec(self) -> Any:
        return tf.io.FixedLenFeature([1], tf.string)

    def _apply(self, module: Module, feature: Any) -> Any:
        return module(tf.reshape(feature, [-1]))


@dataclass(frozen=True)
class ImageEmbeddingColumn(_ModuleColumn):
    """What `image_embedding_column` returns.

    Attributes:
      image_size: height and width of the images; those that the module expects where it is None.
    """

    image_size: tuple[int, ...] | None

    def _input_issues(self) -> list[str]:
        infos = self.module_spec.get_input_info_dict()
        if list(infos) != ["images"] or infos["images"].dtype != tf.float32:
            return [f"it takes {infos}, and not the one float32 input 'images'"]
        if self.image_size is not None:
            fits = len(self.image_size) == 2 and min(self.image_size) > 0
            return [] if fits else [f"{self.image_size} are not the height and width of images"]
        try:
            get_expected_image_size(self.module_spec)
        except ValueError as error:
            return [str(error)]
        return []

    def _feature_spec(self) -> Any:
        height, width = self.image_size or get_expected_image_size(self.module_spec)
        return tf.io.FixedLenFeature([height, width, 3], tf.float32)

    def _apply(self, module: Module, feature: Any) -> Any:
        return module({"images": feature})
