"""The TF1 Hub module format: reading it into a Model."""

from bridge.hub_module.reader import read_hub_module

__all__ = ["read_hub_module"]
