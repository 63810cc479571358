"""RealNVP flows trained on the tempered reverse KL.

The modules in the order in which they build on one another:

* `target`, `couplings`: the target's density and the flow, in JAX.
* `tempering`, `training`: β of each step, and the compiled training loop.
* `diagnostics`, `mode_coverage`, `recovery`: the signs of mode collapse, and of the recovery of a lost mode.
* `side_by_side`, `checkpoint`, `training_run`: many flows at once, interruptions, and `train_flow`.
* `schedule_sweep`, `mixture_theory`, `experiments`: flows under many schedules, and the theory's result beside them.
* `flow_tables`, `run_figures`, `sweep_figures`: the results for people.

Training needs JAX, equinox and optax, the extra `flows`. It uses nothing of the theory of mixtures.
"""
