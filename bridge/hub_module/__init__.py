"""The TF1 Hub module format: reading it into a Model, and writing one."""

from bridge.hub_module.reader import read_hub_module
from bridge.hub_module.writer import HubModuleWriter, HubWriteOptions

__all__ = ["HubModuleWriter", "HubWriteOptions", "read_hub_module"]
