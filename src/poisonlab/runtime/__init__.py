"""How a program is run: arguments, one-line errors, logs, locks, run cards, intervals of saves.

Nothing here computes a result, so the digests of a job's code leave this package out by name: a change here reruns
nothing. It imports only the standard library, ``poisonlab.errors``, ``poisonlab.files`` and ``poisonlab.provenance``.
"""
