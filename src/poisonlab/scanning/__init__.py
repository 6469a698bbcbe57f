"""Scanning a dataset: features of one network, the filters' rankings joined, neighbours, duplicates, and the power."""
