"""Settings: typed, checked, and free of torch, so that the Snakefile can read them in a moment."""
