"""Runs two models on the same inputs, and tells whether a user could see a difference."""
