"""Settings of the attacks, one module each; ``method`` names the module of ``poisonlab.attacks``."""
