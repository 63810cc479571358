"""The derivation as a value: the ordered steps from the objective to the closed system of the summary statistics.

objective → average over components → pathwise gradient → mixture scores → score-function part vanishes → responsibilities sum
to one → Stein → projected flow → product rule → closure in the overlaps → jointly Gaussian scalars → geometry → two-mode
forms → final variables. Every rule holds for any number of modes and components; the two-mode rules step aside for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from derive.geometry import Geometry, Overlaps, overlaps_of
from derive.objective import Setting
from derive.scalar_steps import scalar_steps
from derive.step import Equation, Equations, Step, definitions, rates
from derive.system import BETA, OdeSystem
from derive.vector_steps import flow_steps, gradient_steps


@dataclass(frozen=True)
class Derivation:
    """setting and geometry: what was assumed. steps: how the system follows. system: the result, ready for kernels."""

    setting: Setting
    geometry: Geometry
    overlaps: Overlaps
    steps: tuple[Step, ...]
    system: OdeSystem

    def equations(self) -> Mapping[str, Equation]:
        """The final equations by label: the definitions and the rates of the states."""
        return {e.label: e for e in self.steps[-1].after}


def derive(setting: Setting, geometry: Geometry, label: str) -> Derivation:
    """Run every rule, from the setting's objective to the carrier of the closed system.

    Raises RuleDoesNotApplyError where a rule's hypothesis fails: at present, unequal scales within one mixture.
    """
    overlaps = overlaps_of(setting, geometry)
    gradient = gradient_steps(setting)
    flow = flow_steps(setting, overlaps, gradient[-1].after)
    scalar = scalar_steps(setting, overlaps, flow[-1].after)
    return Derivation(setting, geometry, overlaps, (*gradient, *flow, *scalar), _carrier(overlaps, scalar[-1].after, label))


def _carrier(overlaps: Overlaps, final: Equations, label: str) -> OdeSystem:
    states = tuple(state for state, _, _ in overlaps.moving)
    named = tuple((e.symbol, e.value) for e in definitions(final))
    right = {e.label: e.value for e in rates(final)}
    rhs = tuple(right[f"d{s.name}"] for s in states)
    bounds = [b for pair in overlaps.domain.bounds for b in pair]
    free: set[sp.Symbol] = set().union(*(e.free_symbols for e in (*rhs, *(v for _, v in named), *overlaps.domain.gram, *bounds)))
    parameters = sorted(free - set(states) - {s for s, _ in named} - {BETA}, key=lambda s: s.name)
    return OdeSystem(label, states, tuple(parameters), named, rhs, overlaps.domain)
