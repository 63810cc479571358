"""Symbolic derivation of the summary-statistics flow of annealed variational inference on Gaussian mixtures.

Each stage of the derivation is a function from frozen value to frozen value. The rooms, in the order of the pipeline:

problem
    TOML or a name → Problem, checked when it is made; schedules → β(t) as a SymPy expression
objects
    the nodes of equations: vectors, mixtures, averages, softmax, the objective; Step and OdeSystem, the carriers
rules
    gradients, slopes, the flow, the reduction of averages: one subject a module
dynamics
    Problem → Setting and Geometry → Derivation: ordered steps, from the objective to the closed OdeSystem
asymptotics
    OdeSystem → the bimodal system in its averages F and G, and from it limits, growth rates and spectra
checks
    each step's two sides in coordinates, to 30 digits; systems with one wrong term, as negative controls
writing
    Derivation → text, Markdown, LaTeX; the rates for any K and L, as sums

This package imports SymPy and mpmath only.
"""

IS_ANNEALVI = True
"""Other packages are called `derive` too; `annealvi` recognises this one by this mark."""
