"""Figures of the paper, drawn from what the other stages measured."""
