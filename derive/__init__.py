"""Symbolic derivation of the summary-statistics flow of annealed variational inference on Gaussian mixtures.

The stages, each a function from frozen value to frozen value:

    problem_file, built_in   TOML or a name → Problem (checked when made)
    symbolic_problem   Problem → Setting (objective, densities, manifold) and Geometry (what is known of the vectors)
    derivation     Setting, Geometry → Derivation: ordered steps, each rule in a module of its own
                     objective, mixtures, vectors, softmax, expectation (the nodes)
                     gradient_rules (means) · slopes (weights, scales) · flow · reduction · two_modes (the rules)
    indexed_equations   the same rates for any K and L, as sums
    system         Derivation → OdeSystem, the carrier that kernels are generated from
    equal_weights  OdeSystem → the bimodal system in F and G; from it:
                     transverse_growth (rates about m_1 = m_2) · quasi_static · growth_exponents · hold_and_quench
                     high_temperature · large_separation · small_overlaps · near_equal (expansions, by expectation_rules)
    asymptotics    all of these limits, each Expansion with what it leaves out
    linear_stability   Derivation → spectra at the symmetric states, by forces
    schedules      ScheduleSpec → β(t) as a SymPy expression
                     points_file (a table's file) · interpolation (its node) · scaled_form (formulas that do not overflow on the way)
    concrete, step_check   each step's two sides are given their meaning in coordinates and compared to 30 digits
    mutations      OdeSystem → its one-term mutants, the negative controls
    rendering      Derivation → text, Markdown, LaTeX

This package imports SymPy and mpmath only.
"""

IS_ANNEALVI = True
"""Other modules are called `derive` too; `annealvi` looks for this mark."""
