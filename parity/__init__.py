"""Learned erasure codes for neural-network inference."""
