"""How much a study computes, counted from its settings: forward passes of its networks, times images.

A forward pass is measured once per architecture, everything else is a number of passes (``networks`` says how many of
each sort); ``stages`` adds up the jobs of a study, ``rates`` turns work into hours. Work is in floating-point
operations, two per multiplication with addition, of convolutions and matrix products: what torch's own counter counts.

Counts are what the code computes at most: EPIC, deep k-NN and activation clustering are taken to drop nothing, Neural
Cleanse to search for all its epochs and to repair.
"""
