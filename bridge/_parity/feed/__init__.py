"""What the models are fed."""
