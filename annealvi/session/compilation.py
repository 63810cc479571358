"""From a derived system and a problem's numbers to the compiled kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from derive.dynamics.adaptive_schedule import INTERVAL, STEP
from derive.objects.system import OdeSystem
from derive.problem.schedules import AdaptiveRule, Schedule
from derive.problem.specification import COVARIANCES, BadInput, Problem

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel


def compile_with_schedule(
    problem: Problem, system: OdeSystem, values: Mapping[sp.Symbol, float], schedule: Schedule, **options: Any
) -> Kernel:
    """The kernel of a system whose inverse temperature is a formula in time. values: the system's parameters."""
    known = {**values, **dict(zip(schedule.parameters, schedule.values, strict=True))}
    return _compiled(
        problem, system, schedule.beta, schedule.parameters, known, breakpoints=schedule.breakpoints, **options
    )


def compile_with_rule(
    problem: Problem, system: OdeSystem, values: Mapping[sp.Symbol, float], rule: AdaptiveRule, **options: Any
) -> Kernel:
    """The kernel of an autonomous system, whose last state is the inverse temperature.

    values: numbers of the problem's symbols, among them those of the system's parameters.
    """
    known = {**values, STEP: rule.strength, INTERVAL: rule.interval}
    return _compiled(problem, system, sp.S.One, (), {s: known[s] for s in system.parameters}, **options)


def _compiled(
    problem: Problem,
    system: OdeSystem,
    beta: sp.Expr,
    parameters: tuple[sp.Symbol, ...],
    values: Mapping[sp.Symbol, float],
    **options: Any,
) -> Kernel:
    from kernels.averages.reach import Reach
    from kernels.integrate.kernel import compile_system
    from kernels.machine.stages import stage

    target, proposal = problem.target, problem.proposal
    scales = [*target.scales, *proposal.scales]
    if problem.has_covariances:
        variances = np.linalg.eigvalsh([*problem.mode_covariances, *problem.component_covariances])
        scales += list(np.sqrt(variances.ravel()))
    longest = max(*proposal.radii, float(np.linalg.norm(target.means, axis=1).max()))
    stretches = COVARIANCES in problem.flow.learn and np.isfinite(problem.schedule.T0)
    hottest = problem.schedule.T0 if stretches else 1.0
    reach = Reach(longest, min(scales), max(scales), hottest)
    try:
        with stage("tabulating averages and writing the kernels"):
            return compile_system(system, beta, parameters, values, reach=reach, **options)
    except (ArithmeticError, ValueError) as error:  # an average that no table resolves
        remedy = (
            "bring target.means and proposal.radius within a few hundred scales, and scales within a factor of thirty"
        )
        raise BadInput("problem", f"its averages cannot be tabulated ({error})", remedy) from error
