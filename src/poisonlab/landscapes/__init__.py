"""Networks around poisons: losses over planes of perturbations, spread of the output, features and layer distances."""
