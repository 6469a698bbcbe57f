"""Settings of the network architectures, one module each; ``name`` names the module of ``poisonlab.models``."""
