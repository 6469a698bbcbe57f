"""Settings of the data sources, one module each; ``source`` names the module of ``poisonlab.data`` that reads it."""
