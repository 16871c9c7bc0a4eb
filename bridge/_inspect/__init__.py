"""`bridge.inspect`: what is in a model, from its files alone."""
