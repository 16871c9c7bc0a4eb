"""The rewriting steps between reader and writer.

One pass a module. What runs, and in which order, is one visible tuple per direction.
"""

from bridge.passes._infra import Pass, run_passes
from bridge.passes.call_functions import CallFunctions
from bridge.passes.check_ops import CheckOps
from bridge.passes.check_state import CheckState
from bridge.passes.functional_control_flow import FunctionalControlFlow
from bridge.passes.prune import Prune
from bridge.passes.resource_state import ResourceState
from bridge.passes.stop_gradients import StopGradients
from bridge.passes.strip_placement import StripPlacement


def to_saved_model_passes(allowed_ops: frozenset[str] = frozenset()) -> tuple[Pass, ...]:
    """Returns the passes from a TF1 Hub module to what a TF2 SavedModel can hold, in order.

    Args:
      allowed_ops: ops that CheckOps lets through although they are unsafe or unknown.
    """
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


__all__ = ["Pass", "run_passes", "to_saved_model_passes"]
