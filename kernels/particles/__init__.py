"""The gradient flow in all d dimensions, which knows densities and sampling only and nothing of the derivation."""
