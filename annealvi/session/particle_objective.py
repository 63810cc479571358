"""A problem's objective as the particle simulation and the grid take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from derive.problem.specification import Problem

if TYPE_CHECKING:
    from kernels.particles.objective import Objective


def objective_of_particles(problem: Problem) -> Objective:
    """The share of the forward KL and the reference's scale, which is infinite where there is no reference."""
    from kernels.particles.objective import Objective

    reference = problem.target.reference_scale
    return Objective(problem.objective.forward_share, math.inf if reference is None else reference)
