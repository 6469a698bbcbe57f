"""Filters decide from features or gradients and labels which examples to keep; one module each."""
