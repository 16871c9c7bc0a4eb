"""The TF2 SavedModel format: writing a Model as one."""

from bridge.saved_model.writer import SavedModelWriter, WriteOptions

__all__ = ["SavedModelWriter", "WriteOptions"]
