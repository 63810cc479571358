"""Symbolic derivation of the summary-statistics flow of annealed variational inference on Gaussian mixtures.

Each stage is a function from frozen value to frozen value, and each room holds one of them:

problem
    TOML or a name → Problem, checked when it is made; schedules → β(t) as a SymPy expression
objects
    the nodes of equations: vectors, mixtures, averages, softmax, the objective; Step and OdeSystem, the carriers
rules
    gradients, slopes, the flow, the reduction of averages: one rule a module
dynamics
    Problem → Setting and Geometry → Derivation: ordered steps, from the objective to the closed OdeSystem
asymptotics
    OdeSystem → the bimodal system in F and G, and from it all limits, growth rates, holds and spectra
checks
    each step's two sides in coordinates, to 30 digits; the system's one-term mutants, the negative controls
writing
    Derivation → text, Markdown, LaTeX; the rates for any K and L, as sums

This package imports SymPy and mpmath only.
"""

IS_ANNEALVI = True
"""Other modules are called `derive` too; `annealvi` looks for this mark."""
