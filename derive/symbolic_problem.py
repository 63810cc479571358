"""From a problem's numbers to the symbols that the derivation works with, and back to their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from derive.derivation import Derivation, derive
from derive.geometry import RADIUS, Geometry, R, antipodal, unrelated
from derive.mixtures import Mixture
from derive.objective import Setting, tempered_reverse_kl
from derive.problem import BadInput, Problem
from derive.vectors import VectorSymbol

MOST_NAMED = 9


@dataclass(frozen=True)
class SymbolicProblem:
    """setting and geometry: the derivation's input. values: each parameter symbol's number in this problem.

    independent_modes: indices of the modes whose overlaps are states; the others are their images.
    """

    setting: Setting
    geometry: Geometry
    values: Mapping[sp.Symbol, float]
    independent_modes: tuple[int, ...]


def symbolise(problem: Problem) -> SymbolicProblem:
    """Symbols for the problem's weights, scales, lengths and Gram entries.

    A scale of one stays the number one. Two opposite modes become an antipodal pair at distance R; proposal means on the same
    radius share the symbol R, on another have r. Raises BadInput for what the derivation does not cover.
    """
    if problem.flow.learn != ("means",):
        raise BadInput("flow.learn", f"{list(problem.flow.learn)} is not derived yet", 'use flow.learn = ["means"]')
    for key, count in (("target.weights", len(problem.target.weights)), ("proposal.weights", len(problem.proposal.weights))):
        if count > MOST_NAMED:
            raise BadInput(key, f"{count} components", f"give at most {MOST_NAMED}: states are named by one digit per index")
    for key, scales in (("target.scales", problem.target.scales), ("proposal.scales", problem.proposal.scales)):
        if len(set(scales)) > 1:
            raise BadInput(key, f"{list(scales)} are unequal, which is not derived yet", "give every component of a mixture one scale")
    values: dict[sp.Symbol, float] = {}
    proposal = _mixture("q", r"\rho", "a", "a", "w", "sigma", problem.proposal.weights, problem.proposal.scales, values)
    target = _mixture(
        r"p^{\star}", r"\rho^{\star}", "nu", r"\nu", "w_star", "sigma_star", problem.target.weights, problem.target.scales, values
    )
    setting = tempered_reverse_kl(proposal, target, problem.flow.manifold)
    means = problem.target.means
    if len(means) == 2 and all(x == -y for x, y in zip(*means, strict=True)):
        distance = math.hypot(*means[0])
        values[R] = distance
        radius = R if math.isclose(problem.proposal.radius, distance, rel_tol=1e-12) else RADIUS
        values[radius] = problem.proposal.radius if radius == RADIUS else distance
        return SymbolicProblem(setting, antipodal(setting, radius), values, (0,))
    values[RADIUS] = problem.proposal.radius
    for k, u in enumerate(means, 1):
        for l, v in enumerate(means[k - 1 :], k):
            values[sp.Symbol(f"Gamma_{k}{l}", real=True)] = math.fsum(x * y for x, y in zip(u, v, strict=True))
    return SymbolicProblem(setting, unrelated(setting), values, tuple(range(len(means))))


def _mixture(density: str, posterior: str, letter: str, letter_tex: str, weight: str, scale: str, weights, scales, values: dict) -> Mixture:
    weight_symbols = [sp.Symbol(f"{weight}_{j}", positive=True) for j in range(1, len(weights) + 1)]
    values.update(zip(weight_symbols, weights, strict=True))
    common = sp.S.One if scales[0] == 1 else sp.Symbol(scale, positive=True)
    if common.is_Symbol:
        values[common] = scales[0]
    vectors = [VectorSymbol(f"{letter}_{j}", f"{letter_tex}_{{{j}}}") for j in range(1, len(weights) + 1)]
    return Mixture(sp.Symbol(density), sp.Symbol(posterior), weight_symbols, vectors, [common] * len(scales))


def derive_problem(problem: Problem) -> Derivation:
    """The derivation of a problem's summary-statistics system; BadInput where a rule does not cover it."""
    symbolic = symbolise(problem)
    return derive(symbolic.setting, symbolic.geometry, problem.name)


def parameter_values(problem: Problem, derivation: Derivation) -> dict[sp.Symbol, float]:
    """The numbers of the system's parameters in this problem, in the system's order."""
    values = symbolise(problem).values
    return {p: values[p] for p in derivation.system.parameters}
