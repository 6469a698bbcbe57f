"""Figures of the papers, drawn from the measurements of other stages."""
