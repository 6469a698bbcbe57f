"""One training loop for every victim, surrogate and noise donor."""
