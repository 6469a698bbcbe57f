"""Filters: find suspects from features or gradients and labels, and say which examples to keep; one module each."""
