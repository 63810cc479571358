"""The limits in which somebody's equations may agree with the derived ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.factors import same
from annealvi.comparison.evidence.rates import Rates
from annealvi.comparison.evidence.samples import Samples, has_geometry, random_samples
from annealvi.comparison.reading.theirs import Theirs
from annealvi.comparison.reading.variables import in_variables
from annealvi.session.session import Session
from derive.objects.states import StateKind
from derive.objects.system import BETA, OdeSystem

STEP = 1e-4
"""The inverse temperature, or the scale of overlaps, at which the first order in it is told from the second."""
ROUNDING = 1e-12
"""How far a linear function may be from one, relative to its largest value: the error of averages."""
HIGHER = 1000
"""The most by which a third derivative exceeds the first; with R = 3 it grows as R**6."""
EQUAL_WEIGHTS = (
    ("the proposal's weights are equal", ("proposal",)),
    ("the target's weights are equal", ("target",)),
    ("all weights are equal", ("target", "proposal")),
)
"""Special cases, and the mixtures whose weights are equal in them."""

Numbers = Mapping[sp.Symbol, np.ndarray]


def limit_of_agreement(session: Session, theirs: Theirs, seed: int) -> str:
    """The first limit in which the equations agree; empty where there is none.

    Equations for equal weights do not contain these weights: those that do contain them, and agree where the weights
    are equal, have one weight in the place of another. Equations for small overlaps are linear in them: others that
    agree to first order may have a slip in a higher one.
    """
    system = in_variables(session.derivation.system, theirs.variables)
    overlaps = [v for v in system.variables if v.kind in (StateKind.MODE_OVERLAP, StateKind.MEAN_OVERLAP)]

    def cooled(numbers: Numbers, step: float) -> Numbers:
        return {**numbers, BETA: np.full_like(numbers[BETA], step)}

    def shrunk(numbers: Numbers, step: float) -> Numbers:
        return {**numbers, **{v.symbol: step * numbers[v.symbol] for v in overlaps}}

    if has_geometry(session):
        found = Rates(system, theirs, random_samples(session, seed, own_geometry=True))
        if all(found.factor(s) == found.common_unit() for s in system.states):
            unit = found.common_unit()
            return "for the lengths and angles of this problem's modes" + _in_unit(unit)
    words = _equal_weights(session, system, theirs, seed)
    if words:
        return words
    if _first_order(session, system, theirs, seed, cooled):
        return "to first order in beta, at high temperature"
    lengths = any(len(set(v.components)) < len(v.components) for v in overlaps)
    if overlaps and not lengths and _first_order(session, system, theirs, seed, shrunk, linear=True):
        return "to first order in the overlaps, where these are small"
    return ""


def _equal_weights(session: Session, system: OdeSystem, theirs: Theirs, seed: int) -> str:
    setting = session.derivation.setting
    weights = {"proposal": set(setting.proposal.weights), "target": set(setting.target.weights)}
    used = theirs.used_symbols()
    for text, equal in EQUAL_WEIGHTS:
        if any(used & weights[mixture] for mixture in equal):
            continue
        found = Rates(system, theirs, random_samples(session, seed, equal))
        unit = found.common_unit()
        if all(found.factor(s) == unit for s in system.states):
            return f"where {text}" + _in_unit(unit)
    return ""


def _in_unit(unit: sp.Expr) -> str:
    return f", in a unit of time {unit} times as short" if unit != 1 else ""


def _first_order(
    session: Session,
    system: OdeSystem,
    theirs: Theirs,
    seed: int,
    at: Callable[[Numbers, float], Numbers],
    linear: bool = False,
) -> bool:
    """Whether both sides agree to first order in a number, at which `at` puts the states; at few points first.

    linear: whether their rates must be linear in it.
    """
    samples = random_samples(session, seed)
    for points in (samples.sets == 0, slice(None)):
        numbers = {s: v[points] for s, v in samples.numbers.items()}
        levels = [at(numbers, step) for step in (0.0, STEP, 2 * STEP)]
        together = {s: np.concatenate([level[s] for level in levels]) for s in numbers}
        found = Rates(system, theirs, Samples(together, np.tile(samples.sets[points], 3)))
        if not all(_agrees(found, state, linear) for state in system.states):
            return False
    return True


def _agrees(found: Rates, state: sp.Symbol, linear: bool) -> bool:
    own, ours = np.split(found.own[state], 3), np.split(found.ours[state], 3)
    away = [a - b for a, b in zip(own, ours, strict=True)]
    change = np.abs(ours[1] - ours[0]).max()
    first_order = (4 * away[1] - away[2] - 3 * away[0]) / 2
    if linear and not np.abs(own[2] - 2 * own[1] + own[0]).max() <= ROUNDING * np.abs(own[0]).max() + STEP**3 * change:
        return False
    allowed = HIGHER * STEP**2 * change + ROUNDING * found.size(state)
    return same(away[0], 0 * away[0], found.size(state)) and bool(np.abs(first_order).max() <= allowed)
