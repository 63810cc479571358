"""The checks of `annealvi verify`, one subject per module; each function yields `Check` values and prints nothing.

* `derivation_steps`, `kl_gradient`: the steps in coordinates, and the equations and their mutants against grids.
* `evaluator`: right-hand sides in numbers that no kernel computes, to which the other modules compare.
* `kernel_numbers`, `cuda_against_cpu`, `cuda_twin`: the kernels against mpmath, and CUDA against the CPU.
* `against_particles`: the equations against the particle simulation.
* `limit_identities`, `corners`, `protected_pair`: the limits of the theory against the rates, in the numbers of
  `limit_numbers`. `theory` joins them.
* `beside`, `symbolic_beside`: checks that run in processes of their own. `check`: the outcome of one check.
* `every_check`, `report`: all checks in one order, and their table and report.

A function judges the derivation or kernel that it is given, and derives nothing in its place unless the check's name
says so. A check that compared nothing fails.
"""
