"""How far apart two outputs are."""
