"""From a problem to what commands and scripts work with: derivation, coordinates, initial states, kernels."""
