"""The particle simulation of the gradient flow in all d dimensions; it uses no derived equation."""
