"""The derivation as a value: the ordered steps from the objective to the closed system of the summary statistics.

The steps for learned means are, in order:

objective → average over components → pathwise gradient → mixture score → exchange of responsibilities → score-function
part vanishes → deviation from the own mean → Stein → shares → projected flow → product rule → closure in the overlaps,
all in index notation for any numbers of modes and components; then, for the setting's own numbers,

given numbers of modes and components → jointly Gaussian scalars → geometry → two-mode forms → final variables.

The two-mode rules apply to two modes or two components alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import sympy as sp

from derive.dynamics.general import GeneralDerivation, general_derivation
from derive.dynamics.instances import Instance
from derive.dynamics.learned import parameters_in
from derive.dynamics.scalar_steps import scalar_steps
from derive.objects.objective import Setting
from derive.objects.short_repr import short_repr
from derive.objects.step import Equation, Equations, Step, definitions, display, rates
from derive.objects.system import BETA, OdeSystem
from derive.rules.geometry import Geometry, Overlaps, overlaps_of


@dataclass(frozen=True)
class Derivation:
    """A derivation of the summary-statistics flow: its assumptions, its steps and the closed system.

    Attributes
    ----------
    setting : Setting
        The two mixtures, the objective and the flow.
    geometry : Geometry
        What is assumed of the vectors: dependent modes, fixed lengths, the dimension.
    overlaps : Overlaps
        The names of all inner products, and those that move.
    general : GeneralDerivation
        The steps from the objective to the closed flow for any numbers of modes and components, in index notation.
    steps : tuple of Step
        The steps from the closed flow of the setting's own numbers of modes and components to the system, in order.
    system : OdeSystem
        The closed system, ready for kernels.
    """

    setting: Setting
    geometry: Geometry
    overlaps: Overlaps
    general: GeneralDerivation
    steps: tuple[Step, ...]
    system: OdeSystem

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        """LaTeX of the closed system."""
        return display(tuple(self.equations().values()))

    @cached_property
    def written_out(self) -> tuple[Step, ...]:
        """All steps for the setting's own numbers of modes and components: the general ones, then its own.

        They are the general steps with their indices given, the step that leads from these to the closed equations, and
        `steps`. Each equation stands there once for each value of its free indices.
        """
        return (*(Instance(self.setting, self.general).steps() if self.general.steps else ()), *self.steps)

    def equations(self) -> Mapping[str, Equation]:
        """The final equations: the definitions and the rates of the states.

        Returns
        -------
        mapping of str to Equation
            The equations by label, such as "F_1" for a definition and "dm_1" for the rate of the state m_1.
        """
        return {e.label: e for e in self.steps[-1].after}


def derive(setting: Setting, geometry: Geometry, label: str) -> Derivation:
    """Apply every rule in order, from the setting's objective to the closed system, whose label is `label`.

    Problems that differ in their numbers alone, such as the points of a phase map, share the steps.
    """
    derivation = apply_rules(setting, geometry)
    return replace(derivation, system=replace(derivation.system, label=label))


@lru_cache(maxsize=16)
def apply_rules(setting: Setting, geometry: Geometry) -> Derivation:
    """The derivation, with a system that has no label yet."""
    overlaps = overlaps_of(setting, geometry)
    general = general_derivation(setting)
    scalar = scalar_steps(setting, geometry, overlaps, Instance(setting, general).closed())
    return Derivation(setting, geometry, overlaps, general, scalar, _carrier(setting, overlaps, scalar[-1].after))


def _carrier(setting: Setting, overlaps: Overlaps, final: Equations) -> OdeSystem:
    learned = (v for parameter in parameters_in(setting.learn) for v in parameter.variables(setting.proposal))
    variables = (*overlaps.variables, *learned, *overlaps.covariances)
    states = [variable.symbol for variable in variables]
    named = in_order_of_use(tuple((e.symbol, e.value) for e in definitions(final)))
    right = {e.label: e.value for e in rates(final)}
    rhs = tuple(right[f"d{s.name}"] for s in states)
    bounds = [b for variable in variables for b in variable.interval]
    written = (*rhs, *(v for _, v in named), *overlaps.gram, *bounds)
    free: set[sp.Symbol] = set().union(*(e.free_symbols for e in written))
    parameters = sorted(free - set(states) - {s for s, _ in named} - {BETA}, key=lambda s: s.name)
    return OdeSystem("", variables, tuple(parameters), named, rhs, overlaps.gram)


def in_order_of_use(named: tuple[tuple[sp.Symbol, sp.Expr], ...]) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    """The definitions in an order in which each one follows the definitions that it uses."""
    values = dict(named)
    position = {symbol: n for n, symbol in enumerate(values)}
    ordered: dict[sp.Symbol, sp.Expr] = {}

    def place(symbol: sp.Symbol) -> None:
        if symbol not in ordered:
            for used in sorted(values[symbol].free_symbols & values.keys(), key=position.__getitem__):
                place(used)
            ordered[symbol] = values[symbol]

    for symbol in values:
        place(symbol)
    return tuple(ordered.items())
