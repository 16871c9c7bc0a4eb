"""What can be seen of a model without running it, and the comparison of two."""
