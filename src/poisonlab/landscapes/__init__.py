"""What networks do around poisons: losses over planes of perturbations, and how far the output spreads."""
