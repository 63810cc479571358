"""A session joins a problem with its derivation, coordinates, initial states and compiled kernels."""
