"""poisonlab: a reproducible laboratory for data poisoning of image classifiers."""

__version__ = "0.1.0"
