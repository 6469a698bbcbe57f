"""CIFAR-sized classifiers, one module each; ``wrapping`` converts networks of other libraries."""
