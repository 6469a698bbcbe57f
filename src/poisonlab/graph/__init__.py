"""The graph of a study: its jobs with their inputs, outputs, settings and dependencies. Imports no torch."""
