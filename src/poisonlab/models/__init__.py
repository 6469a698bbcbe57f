"""CIFAR-sized classifiers, one module each."""
