"""Names that callables and signatures of a SavedModel have by convention."""

TRAINING = "training"
"""The argument that says whether a callable trains."""

RETURN_ENDPOINTS = "return_endpoints"
"""The argument that asks a callable for all its outputs, not for the default one alone."""

SERVING_DEFAULT = "serving_default"
"""The signature that servers take where nobody names one."""
