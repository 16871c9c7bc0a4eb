"""Finds the first node that differs."""
