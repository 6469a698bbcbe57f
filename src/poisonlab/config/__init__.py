"""Typed and checked settings. No torch, so that the Snakefile reads them in a moment."""
