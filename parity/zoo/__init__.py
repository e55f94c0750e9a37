"""Trained codes by name."""
