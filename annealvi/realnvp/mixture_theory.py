"""The theory of Gaussian mixtures under the same schedules as the flows, for a comparison of shapes.

The theory's time is the gradient flow's own, which has no fixed ratio to an optimiser's steps, so the theory has axes
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from annealvi.collapse.family import Family
from annealvi.collapse.phase_maps import phase_map
from annealvi.collapse.recommendation import KINDS as FORMULAS
from annealvi.collapse.separatrix import QUICK
from annealvi.realnvp.schedule_sweep import spec_of_kind
from annealvi.sweeps.axis import Axis, Choices
from derive.problem.specification import Problem, ScheduleSpec

RANGES = {"schedule.T0": (3.0, 30_000.0), "schedule.t0": (10.0, 3000.0)}
"""Ranges of keys in the theory's own time; other keys mean the same to flows and theory."""
POINTS = 30
DURATION = 2000.0
"""Duration of the schedules in a comparison of kinds, in the theory's time."""
TEMPERATURES = np.geomspace(3.0, 3000.0, 16)


def theory_map(problem: Problem, x: Axis | Choices, y: Axis | Choices, device: str = "auto") -> xr.Dataset:
    """P(collapse) by the formula over the keys of x and y. Raises BadInput for a problem outside the formula."""
    return phase_map(problem, _in_its_own_time(x), _in_its_own_time(y), "p", device=device)


def theory_of_kinds(
    problem: Problem, kinds: Sequence[str], duration: float = DURATION, device: str = "auto"
) -> xr.Dataset:
    """P(collapse) by the formula over (kind, T0), for schedules from T0 to T = 1.05 within `duration`.

    Kinds without a formula are left out. The dataset's `none` is P without annealing. Raises BadInput for a problem
    outside the formula.
    """
    formulas = [kind for kind in kinds if kind in FORMULAS]
    table = np.empty((len(formulas), len(TEMPERATURES)))
    for row, kind in enumerate(formulas):
        family = Family.of(replace(problem, schedule=ScheduleSpec(kind, 100.0, 100.0)), device)
        member = None
        for column, T0 in enumerate(TEMPERATURES):
            spec = spec_of_kind(kind, float(T0), duration, problem.space.dimension)
            member = family.at({"schedule.T0": spec.T0, "schedule.t0": spec.t0}, member)
            table[row, column] = member.separatrix.corrected(QUICK).p
    cold = (
        Family.of(replace(problem, schedule=ScheduleSpec("constant", 1.0, 1.0)), device)
        .base.separatrix.corrected(QUICK)
        .p
    )
    return xr.Dataset(
        {"p": (("kind", "T0"), table), "none": cold}, {"kind": formulas, "T0": TEMPERATURES}, {"duration": duration}
    )


def _in_its_own_time(axis: Axis | Choices) -> Axis | Choices:
    if isinstance(axis, Choices):
        return axis
    low, high = RANGES.get(axis.key, (axis.low, axis.high))
    return Axis(axis.key, low, high, POINTS, axis.log or axis.key in RANGES)
