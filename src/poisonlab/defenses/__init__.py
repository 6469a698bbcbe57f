"""Defenses against data poisoning, one module each."""
