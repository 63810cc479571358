"""The objects that the derivation is written in: SymPy nodes for vectors, mixtures and averages, and the frozen values
that hold equations, steps and the closed system."""
