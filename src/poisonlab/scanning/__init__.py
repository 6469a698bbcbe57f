"""Scanning a dataset: features of one network, the joined ranking of filters, neighbours, duplicates, and the power."""
