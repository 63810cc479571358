"""The averages of a system, sorted by how a kernel evaluates each of them.

The analysis stands between the derivation and the kernels: `analyse_averages` makes one frozen `SystemAverages` of an
`OdeSystem`, and both the source of a kernel and the tables behind its averages are made from that value. An average of
tanh or sech over one normal variable has a table of its own, unless it looks at several states. Averages of softmax
shares, over several variables or at several states form the groups of `kernels.lower.lattice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem
from kernels.lower.invariants import Invariants, Pair, invariants_of, pair_of
from kernels.lower.lattice import Group, Moment, Pattern, groups_of, is_lattice_average, patterns_of, written_out

ARGUMENT = sp.Symbol("argument", real=True)
"""The symbol that replaces the state in an average that depends on one state only."""


class TabulatedAverage(NamedTuple):
    """An average over one normal variable, in the form for which a kernel has one table.

    expression: the average with every named subexpression written out that contains no average, and with its state
    replaced by ARGUMENT where it depends on one state only. state: the index of that state; None where the average
    depends on several states or on none.
    """

    expression: Expectation
    state: int | None


class TablePlace(NamedTuple):
    """Where a kernel reads the moments of a group.

    coordinates: those of the table, in states and parameters. moments: in the table's order. sums: the row of the
    layout with the rule by which the kernel sums where the coordinates are outside the table's box; None where states
    never are.
    """

    coordinates: tuple[sp.Expr, ...]
    moments: tuple[Moment, ...]
    sums: int | None = None


@dataclass(frozen=True)
class SystemAverages:
    """All averages of a system, each once.

    Attributes
    ----------
    system
        The system whose averages these are.
    tabulated
        The averages over one normal variable, in the order of their tables.
    groups
        The groups of averages over several variables, in the order of their rules.
    patterns
        The pattern of each group, which decides the group's compiled function.
    """

    system: OdeSystem
    tabulated: tuple[TabulatedAverage, ...]
    groups: tuple[Group, ...]
    patterns: tuple[Pattern, ...]

    __repr__ = short_repr

    @cached_property
    def invariants(self) -> tuple[Invariants | None, ...]:
        """What the moments of each group depend on, or None."""
        return tuple(invariants_of(group, self.system) for group in self.groups)

    @cached_property
    def pairs(self) -> tuple[Pair | None, ...]:
        """What the moments of each group of two components depend on, or None."""
        return tuple(pair_of(group, self.system) for group in self.groups)

    @cached_property
    def _tables(self) -> dict[tuple, int]:
        return {_table_key(average, self.system): n for n, average in enumerate(self.tabulated)}

    def table_of(self, average: Expectation) -> tuple[int, int | None]:
        """The index of an average's table, and the index of the state at which the table is read, or None."""
        form = _tabulated_form(average, self.system)
        return self._tables[_table_key(form, self.system)], form.state


def analyse_averages(system: OdeSystem) -> SystemAverages:
    """Find and sort every average of a system. Raises ValueError for an average that has no kernel form."""
    found: dict[tuple, TabulatedAverage] = {}
    for average in _averages_in_order(system):
        form = _tabulated_form(average, system)
        found.setdefault(_table_key(form, system), form)
    groups = groups_of(system)
    return SystemAverages(system, tuple(found.values()), tuple(groups), tuple(patterns_of(groups)))


def _averages_in_order(system: OdeSystem) -> list[Expectation]:
    expressions = [*(e for _, e in system.subexpressions), *system.rhs]
    found = (
        [written_out(a, system) for a in e.atoms(Expectation) if not is_lattice_average(a, system)] for e in expressions
    )
    return [a for averages in found for a in sorted(averages, key=sp.default_sort_key)]


def _tabulated_form(average: Expectation, system: OdeSystem) -> TabulatedAverage:
    states = sorted(average.free_symbols & set(system.states), key=system.states.index)
    if len(states) != 1:
        return TabulatedAverage(average, None)
    return TabulatedAverage(average.xreplace({states[0]: ARGUMENT}), system.states.index(states[0]))


def _table_key(average: TabulatedAverage, system: OdeSystem) -> tuple:
    """Averages with equal keys share a table. A table covers one interval, so the key contains that of the state."""
    bounds = None if average.state is None else system.variables[average.state].interval
    return average.expression, bounds
