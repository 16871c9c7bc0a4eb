"""`bridge.check`: does a model keep the common image signatures? `run.py` first."""
