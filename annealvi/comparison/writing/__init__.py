"""Comparisons in words, as JSON and as reports; equations as the TOML and LaTeX from which they can be read."""
