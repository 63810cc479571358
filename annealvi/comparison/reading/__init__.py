"""Somebody's equations as expressions: from TOML, from LaTeX or from SymPy."""
