"""Settings of the detectors, one module each; ``method`` names the module of ``poisonlab.detection``."""
