"""Poisoning attacks, one module each; every one returns a PoisonSet."""
