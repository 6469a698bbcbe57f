"""The sections of ``benchmarks/gpu_check.py``, how each is run, and their record."""
