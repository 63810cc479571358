"""Mode collapse in annealed variational inference: derive, generate, integrate, simulate, verify.

The functions of this package do what the commands of the program `annealvi` do:

    problem = annealvi.load_problem("bimodal", ["schedule.T0=30"])
    session = annealvi.open_session(problem)      # derivation, schedule, parameter values
    paths = annealvi.integrate(session, n=100)    # summary-statistics ODE
    cloud = annealvi.simulate(session)            # d-dimensional particles
    checks = annealvi.verify(session)             # every check of equations, kernels and simulation
    found = annealvi.collapse_probability(session)  # by the separatrix formula and by an ensemble of the ODE
    points = annealvi.find_fixed_points(session)  # with spectra; continue_branches follows them in the temperature
    advice = annealvi.recommend(problem, 0.05)    # the shortest schedule with P(collapse) <= 0.05

A problem can also be built in code. Every argument that is left out takes its value from the study's bimodal case. The
proposal's radius may be one number per component:

    target = annealvi.Target(weights=(0.5, 0.3, 0.2), means=((3, 0), (0, 3), (-3, 0)), scales=(1, 1, 1))
    problem = annealvi.Problem(target=target, proposal=annealvi.Proposal(radius=(3.0, 2.5)))
    annealvi.equations(problem)                   # state -> its rate, in SymPy
    annealvi.symbols(problem)["M_11"]             # its symbols by name, for subs and sympy.lambdify
    rates = annealvi.rate_function(problem)       # rates(beta, y) -> dy/dt
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from annealvi.own_packages import require_own_packages

__version__ = "0.1.0"

_HOMES = {  # public name → the module that defines it
    "BUILT_IN": "derive.problem.built_in",
    "BadInput": "derive.problem.field_checks",
    "Flow": "derive.problem.specification",
    "Problem": "derive.problem.specification",
    "Proposal": "derive.problem.specification",
    "Objective": "derive.problem.specification",
    "ScheduleSpec": "derive.problem.specification",
    "Space": "derive.problem.specification",
    "Target": "derive.problem.specification",
    "load_problem": "derive.problem.problem_file",
    "derivation": "derive.dynamics.symbolic_problem",
    "derive_problem": "derive.dynamics.symbolic_problem",
    "make_schedule": "derive.problem.schedules",
    "equations": "annealvi.session.plain_functions",
    "rate_function": "annealvi.session.plain_functions",
    "asymptotics": "annealvi.session.plain_functions",
    "linear_stability": "annealvi.session.plain_functions",
    "Session": "annealvi.session.session",
    "open_session": "annealvi.session.session",
    "velocity": "annealvi.runs.velocity",
    "compare": "annealvi.comparison.compare",
    "Comparison": "annealvi.comparison.compare",
    "integrate": "annealvi.runs.trajectories",
    "simulate": "annealvi.runs.trajectories",
    "verify": "annealvi.verification.every_check",
    "collapse_probability": "annealvi.collapse.probability",
    "Axis": "annealvi.sweeps.axis",
    "Choices": "annealvi.sweeps.axis",
    "Execution": "annealvi.sweeps.running",
    "Sampling": "annealvi.collapse.probability_grid",
    "collapse_grid": "annealvi.collapse.probability_grid",
    "phase_map": "annealvi.collapse.phase_maps",
    "recommend": "annealvi.collapse.recommendation",
    "BetaSchedule": "annealvi.annealing.betas",
    "beta_schedule": "annealvi.annealing.betas",
    "AdaAnn": "annealvi.annealing.adaptive_betas",
    "EffectiveSampleSize": "annealvi.annealing.adaptive_betas",
    "Barrier": "annealvi.annealing.barrier",
    "find_barrier": "annealvi.annealing.barrier",
    "train_flow": "annealvi.realnvp.training_run",
    "flow_map": "annealvi.realnvp.schedule_sweep",
    "compare_kinds": "annealvi.realnvp.schedule_sweep",
    "optimal_schedule": "annealvi.collapse.optimal",
    "best_hold": "annealvi.collapse.best_holds",
    "ultimate_hold": "annealvi.collapse.best_holds",
    "scaling_law": "annealvi.collapse.scaling",
    "find_fixed_points": "annealvi.fixed_points",
    "continue_branches": "annealvi.fixed_points",
    "symbols": "annealvi.session.plain_functions",
    "State": "annealvi.runs.velocity",
    "final_equations": "derive.writing.rendering",
    "problem_to_toml": "derive.problem.problem_file",
    "settling_time": "derive.problem.schedules",
    "schedule_within": "annealvi.annealing.betas",
    "derivation_checks": "annealvi.verification.derivation_steps",
    "grid_checks": "annealvi.verification.kl_gradient",
    "references": "annealvi.verification.kl_gradient",
    "outcomes_of_states": "annealvi.collapse.outcome",
    "collapse_by_ensemble": "annealvi.collapse.ensemble",
    "collapse_law": "annealvi.collapse.collapse_law",
    "collapse_by_particles": "annealvi.collapse.by_particles",
    "Family": "annealvi.collapse.family",
    "phase_panel": "annealvi.collapse.collapse_figures",
    "overlay_by_ode": "annealvi.collapse.map_overlays",
    "Accuracy": "annealvi.collapse.separatrix",
    "bifurcation_figure": "annealvi.fixed_points.bifurcation_diagram",
    "flow_figure": "annealvi.realnvp.run_figures",
    "kinds_figure": "annealvi.realnvp.sweep_figures",
    "map_figure": "annealvi.realnvp.sweep_figures",
    "training_figure": "annealvi.realnvp.sweep_figures",
    "Architecture": "annealvi.realnvp.training",
    "Optimiser": "annealvi.realnvp.training",
}

_STYLE = "annealvi.show.style"
"""The style of the figures, public as the module `annealvi.style`."""

__all__ = ["__version__", *sorted([*_HOMES, "style"])]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use, so that `import annealvi` and the command start quickly."""
    if name not in __all__:
        raise AttributeError(f"module 'annealvi' has no attribute {name!r}")
    require_own_packages()
    if name == "style":
        return import_module(_STYLE)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, whether or not they have been imported yet, for `dir` and completion."""
    return list(__all__)
