"""The objects that the derivation is written in.

Some are SymPy nodes for vectors, mixtures and averages. The others are frozen values that hold equations, steps and the
closed system.
"""
