"""The graph of a study: which jobs it has, and what each reads, writes, is told and depends on. Imports no torch."""
