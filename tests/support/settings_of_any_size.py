"""Problems with modes in general position for given numbers of modes and components."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from derive.dynamics.derivation import Derivation
from derive.dynamics.general import general_derivation
from derive.dynamics.symbolic_problem import symbolise
from derive.objects.step import Step
from derive.problem.specification import LEARNABLE, Flow, Problem, Proposal, Space, Target
from derive.rules.flow import MANIFOLDS as MANIFOLDS
from derive.rules.geometry import overlaps_of

LEARN = tuple(chosen for n in range(1, len(LEARNABLE) + 1) for chosen in itertools.combinations(LEARNABLE, n))
"""Every choice of learned parameters; the last one is all of them."""


def problem_of(
    K: int,
    L: int,
    manifold: str,
    learn: tuple[str, ...] = ("means",),
    scales: Sequence[float] | None = None,
    scales_star: Sequence[float] | None = None,
) -> Problem:
    """K modes in general position in many dimensions and L components, with the given scales or those of one."""
    rng = random.Random(f"{K} {L}")
    means = tuple(tuple(rng.uniform(-2, 2) for _ in range(K + 1)) for _ in range(K))
    return Problem(
        target=Target((1 / K,) * K, means, tuple(scales_star or (1.0,) * K)),
        proposal=Proposal((1 / L,) * L, tuple(scales or (1.0,) * L)),
        flow=Flow(manifold, learn=learn),
        space=Space(max(12, K + 1)),
    )


def up_to_closure(problem: Problem) -> Derivation:
    """The derivation without the steps on averages over scalars, which take the most time."""
    symbolic = symbolise(problem)
    setting, geometry = symbolic.setting, symbolic.geometry
    return Derivation(setting, geometry, overlaps_of(setting, geometry), general_derivation(setting), (), None)


def general_equations(problem: Problem) -> set[tuple]:
    """What the general steps of a problem's derivation say: every equation on either side of each, with its rule.

    Problems that share these equations share their proof, which has to be checked for one of them alone.
    """
    steps = general_derivation(symbolise(problem).setting).steps
    return {
        (step.rule, side, equation.label, equation.value)
        for step in steps
        for side, equations in (("before", step.before), ("after", step.after))
        for equation in equations
    }


def own_steps(derivation: Derivation) -> tuple[Step, ...]:
    """The steps that use the setting's own numbers of modes and components, from where these are given on."""
    return derivation.written_out[len(derivation.general.steps) :]
