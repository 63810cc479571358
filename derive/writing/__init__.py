"""Derivations as text, Markdown and LaTeX, and the equations for any number of modes and components."""
