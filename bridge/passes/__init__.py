"""The rewriting steps between reader and writer.

One pass a module. What runs, and in which order, is one visible tuple per direction. A conversion
imports those of its own direction only.
"""

from bridge.opsets.release import Release
from bridge.passes._infra import Pass, run_passes
from bridge.passes.image_conventions import ImageConventions, ImageOptions


def to_saved_model_passes(allowed_ops: frozenset[str] = frozenset()) -> tuple[Pass, ...]:
    """Returns the passes from a TF1 Hub module to what a TF2 SavedModel can hold, in order.

    Args:
      allowed_ops: ops that CheckOps lets through although they are unsafe or unknown.
    """
    from bridge.passes.call_functions import CallFunctions
    from bridge.passes.check_ops import CheckOps
    from bridge.passes.check_state import CheckState
    from bridge.passes.functional_control_flow import FunctionalControlFlow
    from bridge.passes.prune import Prune
    from bridge.passes.resource_state import ResourceState
    from bridge.passes.stop_gradients import StopGradients
    from bridge.passes.strip_placement import StripPlacement

    return (
        StripPlacement(),
        Prune(),
        CheckOps(allowed_ops),
        CallFunctions(),
        ResourceState(),
        FunctionalControlFlow(),
        CheckState(),
        StopGradients(),
    )


def to_hub_module_passes(
    release: Release,
    images: ImageOptions | None = None,
    allowed_ops: frozenset[str] = frozenset(),
) -> tuple[Pass, ...]:
    """Returns the passes from a TF2 SavedModel to what a TF1 Hub module can hold, in order.

    Args:
      release: the TensorFlow release that must run and differentiate the module.
      images: what the user says of the model's images.
      allowed_ops: ops that are let through although they are unsafe or unknown.
    """
    from bridge.passes.batch_norm_average import BatchNormAverage
    from bridge.passes.batch_norm_layout import BatchNormLayout
    from bridge.passes.check_ops import CheckOps
    from bridge.passes.check_release import CheckRelease
    from bridge.passes.custom_gradients import CustomGradients
    from bridge.passes.dilated_convolution import DilatedConvolution
    from bridge.passes.einsum import Einsum
    from bridge.passes.ensure_shapes import EnsureShapes
    from bridge.passes.explicit_padding import ExplicitPadding
    from bridge.passes.fit_attrs import FitAttrs
    from bridge.passes.forward_identities import ForwardIdentities
    from bridge.passes.grouped_convolution import GroupedConvolution
    from bridge.passes.inline_calls import InlineCalls
    from bridge.passes.lower_control_flow import LowerControlFlow
    from bridge.passes.merge_equal import MergeEqual
    from bridge.passes.older_ops import OlderOps
    from bridge.passes.prune import Prune
    from bridge.passes.random_ops import RandomOps
    from bridge.passes.separate_updates import SeparateUpdates
    from bridge.passes.strip_placement import StripPlacement

    return (
        StripPlacement(),
        InlineCalls(),
        CustomGradients(),
        MergeEqual(),
        RandomOps(),
        SeparateUpdates(allowed_ops),
        ForwardIdentities(),
        MergeEqual(),
        Prune(),
        CheckOps(allowed_ops),
        ImageConventions(images or ImageOptions()),
        Einsum(),
        GroupedConvolution(),
        DilatedConvolution(),
        ExplicitPadding(),
        BatchNormAverage(),
        BatchNormLayout(),
        OlderOps(),
        EnsureShapes(),
        Prune(),
        LowerControlFlow(),
        FitAttrs(release),
        CheckRelease(release, allowed_ops),
    )


__all__ = [
    "ImageOptions",
    "Pass",
    "run_passes",
    "to_hub_module_passes",
    "to_saved_model_passes",
]
