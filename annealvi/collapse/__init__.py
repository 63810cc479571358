"""The probability of mode collapse: by the separatrix formula, by ensembles of the ODE and by particles.

The modules, in the order in which they build on one another:

* `initial_law`: the exact law of the initial overlaps. `outcome`: which modes a final state covers.
* `formula_coverage`: which problems the separatrix formula covers, known before any derivation.
* `pair_flow`, `trapping`: averages within proven bounds, and the sets of overlaps that the flow never leaves.
* `separatrix`, `growth`, `formula`: shooting for the boundary between the outcomes, and the integral of the initial law
  inside it.
* `ensemble`, `by_particles`, `probability`: the two other routes, and all three side by side.
* `family`: problems that differ in a few numbers, derived and compiled once.
* `kernel_sweep`, `probability_grid`, `phase_maps`, `map_overlays`: sweeps of the probability over keys of the problem.
* `schedule_search`, `recommendation`, `best_holds`, `optimal`, `scaling`: cheapest and best schedules, and how long a
  schedule must be.
* `collapse_tables`, `collapse_figures`: the results for people.
"""
