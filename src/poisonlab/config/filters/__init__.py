"""Settings of the filters, one module each; ``method`` names the module of ``poisonlab.filters``."""
