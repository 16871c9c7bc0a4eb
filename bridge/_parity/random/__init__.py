"""The random ops of models, and copies in which they draw the same numbers."""
