"""What a module is called with, as the tensors that its signature takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.errors import Where
from bridge.hub._tf import tf
from bridge.hub.errors import ArgumentTypeError, UnsupportedSpecError
from bridge.hub.info import ParsedTensorInfo
from bridge.model import DEFAULT


def refuse_second(argument: object) -> None:
    """Refuses a second argument of a module that is given without its name.

    Raises:
      TypeError: there is one.
    """
    if argument is not None:
        raise ArgumentTypeError(
            "a module takes no second argument without a name",
            hint="write signature=... or as_dict=...",
        )


def signature_inputs(
    inputs: Any, infos: Mapping[str, ParsedTensorInfo], where: Where
) -> dict[str, Any]:
    """Returns the tensor for each input of a signature.

    Args:
      inputs: as `named_values` takes it.
      infos: what the signature takes.
      where: the signature, for messages.

    Raises:
      TypeError: an input is missing or too many, or its value does not fit.
      ValueError: the signature takes what no module can be given.
    """
    values = named_values(inputs, infos, where)
    check_supported(infos, "input", where)
    return {key: _tensor(key, values[key], infos[key], where) for key in sorted(infos)}


def named_values(
    inputs: Any, infos: Mapping[str, ParsedTensorInfo], where: Where
) -> Mapping[str, Any]:
    """Returns what is given for each input of a signature.

    Args:
      inputs: a dictionary of values by input name; the value itself where the signature has one
        input; None where it has none.
      infos: what the signature takes.
      where: the signature, for messages.

    Raises:
      TypeError: an input is missing or too many.
    """
    values = _by_name(inputs, infos, where)
    missing, extra = sorted(infos.keys() - values.keys()), sorted(values.keys() - infos.keys())
    if missing or extra:
        raise ArgumentTypeError(
            f"the inputs do not fit: missing are {missing}, and {extra} are no inputs of it",
            where=where,
        )
    return values


def _by_name(inputs: Any, infos: Mapping[str, ParsedTensorInfo], where: Where) -> Mapping[str, Any]:
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return inputs
    if len(infos) == 1:
        return {next(iter(infos)): inputs}
    if infos:
        raise ArgumentTypeError(
            "the signature has several inputs, and one value is given",
            where=where,
            hint="give a dictionary with " + ", ".join(map(repr, sorted(infos))),
        )
    raise ArgumentTypeError(
        "the signature has no inputs, and one is given", where=where, hint="give none"
    )


def check_supported(infos: Mapping[str, ParsedTensorInfo], what: str, where: Where) -> None:
    """Refuses inputs or outputs that a module can't have.

    Raises:
      ValueError: one is neither a dense, a sparse nor a ragged tensor.
    """
    for key, info in sorted(infos.items()):
        if not info.is_supported_type:
            raise UnsupportedSpecError(
                f"{what} {key!r} is a {info.type_spec.value_type.__name__}, and only dense, sparse "
                "and ragged tensors can be",
                where=where,
            )


def _tensor(key: str, value: Any, info: ParsedTensorInfo, where: Where) -> Any:
    tensor = value
    if not tf.is_tensor(value) or isinstance(value, tf.Variable):
        try:
            tensor = tf.convert_to_tensor(value, info.dtype)
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(
                f"input {key!r} takes {info!r}, and the value is none: {error}", where=where
            ) from error
    found = tf.type_spec_from_value(tensor)
    # In this order: a tensor of unknown shape may be given to any input, as in a graph.
    if not found.is_compatible_with(info.type_spec):
        raise ArgumentTypeError(f"input {key!r} takes {info.type_spec}, not {found}", where=where)
    return tensor


def chosen_outputs(outputs: Mapping[str, Any], as_dict: bool | None, where: Where) -> Any:
    """Returns all outputs, or the one called `default`, as the caller wants.

    Raises:
      TypeError: there is no output `default`, and the caller did not ask for all.
    """
    if as_dict:
        return dict(outputs)
    if DEFAULT not in outputs:
        raise ArgumentTypeError(
            f"the signature has no output {DEFAULT!r}",
            where=where,
            hint="ask for the dictionary of all outputs with as_dict=True",
        )
    return outputs[DEFAULT]
