"""Mode collapse in annealed variational inference: derive, generate, integrate, simulate, verify.

The command line `annealvi` and these functions do the same things:

    problem = annealvi.load_problem("bimodal", ["schedule.T0=30"])
    session = annealvi.open_session(problem)      # derivation, schedule, parameter values
    paths = annealvi.integrate(session, n=100)    # summary-statistics ODE
    cloud = annealvi.simulate(session)            # d-dimensional particles
    checks = annealvi.verify(session)             # every check of the two
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "BadInput": "derive.problem",
    "Problem": "derive.problem",
    "load_problem": "derive.problem_file",
    "derive_problem": "derive.symbolic_problem",
    "make_schedule": "derive.schedules",
    "Session": "annealvi.session",
    "open_session": "annealvi.session",
    "velocity": "annealvi.rhs",
    "integrate": "annealvi.trajectories",
    "simulate": "annealvi.trajectories",
    "verify": "annealvi.verify",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that the command starts quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module 'annealvi' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
