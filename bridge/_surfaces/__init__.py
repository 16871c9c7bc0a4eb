"""What a user sees of a model, whatever its format, read from its files alone."""
