"""The TF2 SavedModel format: reading it into a Model, and writing one."""

from bridge.saved_model.reader import read_saved_model
from bridge.saved_model.writer import SavedModelWriter, WriteOptions

__all__ = ["SavedModelWriter", "WriteOptions", "read_saved_model"]
