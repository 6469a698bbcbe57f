"""Data: sources, in-memory form, augmentation and the poisoned training set."""
