"""Settings of the defenses, one module each; ``method`` names the module of ``poisonlab.defenses``."""
