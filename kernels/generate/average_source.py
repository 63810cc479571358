"""The source of a system's averages.

There is one function per table, and one function per group of averages over several variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.system import BETA
from kernels.generate.lattice_code import COUNTER, Layout, pattern_blocks
from kernels.generate.printer import ScalarPrinter
from kernels.generate.source_text import device_function, for_each_lane, states_of_lane, symbols_of, unpacked
from kernels.generate.template_source import text_in_precision
from kernels.generate.templates.surface import MOST_FUNCTIONS, MOST_TERMS, PIECE
from kernels.lower.analysis import ARGUMENT, SystemAverages, TablePlace
from kernels.lower.lattice import Pattern, definitions_for
from kernels.lower.lowering import hoisted, lower, share

CLENSHAW_ROWS = 3
SURFACE_ROWS = {
    n: 4 + 2 * MOST_FUNCTIONS + sum((PIECE + 1) * (most // PIECE + 2) for most in (MOST_FUNCTIONS, terms))
    for n, terms in MOST_TERMS.items()
}
"""The rows of lanes in which a table in n coordinates is read."""
WORK = "WORK"


def average_function(
    n: int, by_proxy: bool, averages: SystemAverages, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter
) -> tuple[str, int]:
    """The text of `average_n`, and the number of rows of lanes that the function works in.

    The function writes the values of the n-th tabulated average into mean (LANES,). Its argument x (LANES,) is the only
    state on which the average depends, if there is just one; y holds all states.
    """
    arguments = "x, y, mean, work, p, tables, layout, ranges"
    if by_proxy:
        where = f"layout[{n}, 0], layout[{n}, 1], ranges[{n}, 0], ranges[{n}, 1]"
        return device_function(f"average_{n}", arguments, [f"clenshaw(tables, {where}, x, mean, work)"]), CLENSHAW_ROWS
    expression, states = averages.tabulated[n].expression, averages.system.states
    (z,) = expression.variables
    outside, inside = hoisted(lower(expression.integrand), {z})

    def of_lane(used: set[sp.Symbol]) -> list[str]:
        return [*(["argument = x[lane]"] if ARGUMENT in used else []), *states_of_lane(states, used)]

    before = symbols_of(e for _, e in outside)
    keep = [f"work[{k} * LANES + lane] = {printer.text(e)}" for k, (_, e) in enumerate(outside)]
    recall = [f"{s.name} = work[{k} * LANES + lane]" for k, (s, _) in enumerate(outside)]
    add = f"mean[lane] += weight * ({printer.text(inside)})"
    lines = [
        *unpacked(parameters, expression.free_symbols, "p"),
        *for_each_lane([*of_lane(before), *keep, f"mean[lane] = {printer.literal(sp.S.Zero)}"]),
        f"start, count = layout[{n}, 0], layout[{n}, 1]",
        "for j in range(count):",
        f"    {z.name} = tables[start + j]",
        "    weight = tables[start + count + j]",
        *(f"    {line}" for line in for_each_lane([*of_lane(inside.free_symbols), *recall, add])),
    ]
    return device_function(f"average_{n}", arguments, lines), len(outside)


def group_blocks(
    averages: SystemAverages,
    surfaces: Mapping[int, TablePlace],
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
    target: str,
) -> list[str]:
    """The texts of all functions for averages over several variables.

    surfaces: where a group's table is read, by the group's index. The other groups are summed over lattices, and groups
    of one pattern share a function.
    """
    read = [_surface_function(g, where, averages, parameters, printer) for g, where in surfaces.items()]
    summed = summed_patterns(averages, surfaces)
    blocks = [text_in_precision("surface", printer), *read] if read else []
    if not summed:
        return blocks
    distinct = list(dict.fromkeys(summed.values()))
    functions = [
        _sums_function(g, distinct.index(pattern), row_of_sums(g, averages, surfaces), averages, parameters, printer)
        for g, pattern in summed.items()
    ]
    return [*blocks, *pattern_blocks(distinct, target), *functions]


def summed_patterns(averages: SystemAverages, surfaces: Mapping[int, TablePlace]) -> dict[int, Pattern]:
    """The patterns of the groups that are summed over lattices, everywhere or outside their table's box, by index."""
    patterns = enumerate(averages.patterns)
    return {g: pattern for g, pattern in patterns if g not in surfaces or surfaces[g].sums is not None}


def row_of_sums(g: int, averages: SystemAverages, surfaces: Mapping[int, TablePlace]) -> int:
    """The row of the layout with the lattice rule of a group."""
    own = surfaces[g].sums if g in surfaces else None
    return len(averages.tabulated) + g if own is None else own


def _surface_function(
    g: int,
    where: TablePlace,
    averages: SystemAverages,
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
) -> str:
    """The text of `group_g`, which computes the coordinates of each lane and reads its moments from its table."""
    states, coordinates = averages.system.states, where.coordinates
    shared, places = share([lower(e) for e in coordinates])
    used = symbols_of([*places, *(e for _, e in shared)])
    lines = [*states_of_lane(states, used), *(f"{s.name} = {printer.text(e)}" for s, e in shared)]
    lines += [f"work[{k} * LANES + lane] = {printer.text(e)}" for k, e in enumerate(places)]
    row, moments = len(averages.tabulated) + g, len(averages.groups[g].moments)
    read = f"surface(tables, layout[{row}, 0], {len(coordinates)}, {moments}, found, work)"
    body = [*unpacked(parameters, used, "p"), *for_each_lane(lines), read]
    return device_function(f"group_{g}", "y, found, work, p, tables, layout", body)


def _sums_function(
    g: int,
    function: int,
    row: int,
    averages: SystemAverages,
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
) -> str:
    """The text of `sums_g`, which computes the coefficients of a lane's logits and calls the pattern's function."""
    group, system = averages.groups[g], averages.system
    definitions = [(s, lower(e)) for s, e in definitions_for(group.coefficients, system)]
    shared, coefficients = share([lower(c) for c in group.coefficients])
    used = symbols_of([*coefficients, *(e for _, e in (*definitions, *shared))])
    lines = [
        *states_of_lane(system.states, used),
        *unpacked(parameters, used, "p"),
        *(["beta = betas[lane]"] if BETA in used else []),
    ]
    lines += [f"{s.name} = {printer.text(e)}" for s, e in (*definitions, *shared)]
    place = Layout(averages.patterns[g]).coefficients
    lines += [f"scratch[{place + k}] = {printer.text(c)}" for k, c in enumerate(coefficients)]
    lines += [f"moments_{function}(tables, layout[{row}, 0], layout[{row}, 1], scratch, flag)"]
    return device_function(f"sums_{g}", "lane, betas, y, p, tables, layout, scratch, flag", lines)


def averages_from_moments(
    averages: SystemAverages, surfaces: Mapping[int, TablePlace], printer: ScalarPrinter
) -> tuple[dict[Expectation, sp.Expr], list[str], dict[sp.Symbol, int]]:
    """Every average over several variables as a combination of moments.

    Also the lines that compute the moments, and the row of `means` of each moment. The lines use the text WORK for the
    rows behind all means.
    """
    combinations: dict[Expectation, sp.Expr] = {}
    summed = summed_patterns(averages, surfaces)
    lines = [f"scratch[{COUNTER}] = {printer.literal(sp.S.Zero)}"] if summed else []
    rows: dict[sp.Symbol, int] = {}
    for g, group in enumerate(averages.groups):
        moments, first = surfaces[g].moments if g in surfaces else sorted(group.moments), len(rows)
        names = {m: sp.Symbol(f"moment_{g}_{k}", real=True) for k, m in enumerate(moments)}
        for average, combination in group.averages.items():
            combinations[average] = sp.Add(*(c * names.get(m, sp.S.One) for m, c in combination.items()))
        rows |= {name: first + k for k, name in enumerate(names.values())}
        if g in surfaces:
            lines.append(f"group_{g}(y, means[{first} * LANES :], {WORK}, p, tables, layout)")
        if g in summed:
            pattern = summed[g]
            place = Layout(pattern).moments
            sums = [
                f"sums_{g}(lane, betas, y, p, tables, layout, scratch, flag)",
                *(
                    f"means[{first + k} * LANES + lane] = scratch[{place + pattern.moments.index(m)}]"
                    for k, m in enumerate(moments)
                ),
            ]
            # Outside the box of its coordinates a table has no number.
            outside = f"if math.isnan(means[{first} * LANES + lane]):"
            lines += for_each_lane([outside, *(f"    {line}" for line in sums)] if g in surfaces else sums)
    return combinations, lines, rows
