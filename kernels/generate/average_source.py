"""The source of a system's averages.

There is one function per table, and one function per group of averages over several variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.system import BETA
from kernels.generate.lattice_code import COUNTER, Layout, lattice_functions
from kernels.generate.printer import ScalarPrinter
from kernels.generate.source_text import device_function, for_each_lane, states_of_lane, symbols_of, unpacked
from kernels.generate.template_source import copied_text, text_in_precision
from kernels.generate.templates.surface import MOST_FUNCTIONS, MOST_TERMS, PIECE
from kernels.lower.analysis import ARGUMENT, SystemAverages
from kernels.lower.lattice import definitions_for
from kernels.lower.lowering import hoisted, lower, share

CLENSHAW_ROWS = 3
SURFACE_ROWS = {
    n: 4 + 2 * MOST_FUNCTIONS + sum((PIECE + 1) * (most // PIECE + 2) for most in (MOST_FUNCTIONS, terms))
    for n, terms in MOST_TERMS.items()
}
"""The rows of lanes in which a table in n coordinates is read."""
WORK = "WORK"
FUSED = {
    "cpu": "fused = njit(error_model='numpy', fastmath={'contract', 'reassoc'}, "
    "no_cpython_wrapper=True, no_cfunc_wrapper=True)\n",
    "cuda": "fused = device\n",
}
"""The decorator of the innermost loops of lattice averages, by target. The loops sum many terms of similar size, and
the compiler can only vectorise them if it may add the terms in any order."""


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
    surfaces: Mapping[int, tuple[sp.Expr, ...]],
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
    target: str,
) -> list[str]:
    """The texts of all functions for averages over several variables.

    surfaces: where a group's table is read, by the group's index. The other groups are summed over lattices, and groups
    of one pattern share a function.
    """
    read = [_surface_function(g, coordinates, averages, parameters, printer) for g, coordinates in surfaces.items()]
    summed = {g: pattern for g, pattern in enumerate(averages.patterns) if g not in surfaces}
    blocks = [text_in_precision("surface", printer), *read] if read else []
    if not summed:
        return blocks
    distinct = list(dict.fromkeys(summed.values()))
    functions = [text for n, pattern in enumerate(distinct) for text in lattice_functions(n, pattern)]
    functions += [
        _group_function(g, distinct.index(pattern), averages, parameters, printer) for g, pattern in summed.items()
    ]
    return [*blocks, FUSED[target], copied_text("lattice"), *functions]


def _surface_function(
    g: int,
    coordinates: tuple[sp.Expr, ...],
    averages: SystemAverages,
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
) -> str:
    """The text of `group_g`, which computes the coordinates of each lane and reads its moments from its table."""
    states = averages.system.states
    shared, places = share([lower(e) for e in coordinates])
    used = symbols_of([*places, *(e for _, e in shared)])
    lines = [*states_of_lane(states, used), *(f"{s.name} = {printer.text(e)}" for s, e in shared)]
    lines += [f"work[{k} * LANES + lane] = {printer.text(e)}" for k, e in enumerate(places)]
    row, moments = len(averages.tabulated) + g, len(averages.groups[g].moments)
    read = f"surface(tables, layout[{row}, 0], {len(coordinates)}, {moments}, found, work)"
    body = [*unpacked(parameters, used, "p"), *for_each_lane(lines), read]
    return device_function(f"group_{g}", "y, found, work, p, tables, layout", body)


def _group_function(
    g: int, function: int, averages: SystemAverages, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter
) -> str:
    """The text of `group_g`, which computes the coefficients of the logits and calls the pattern's function."""
    group, system = averages.groups[g], averages.system
    definitions = [(s, lower(e)) for s, e in definitions_for(group.coefficients, system)]
    shared, coefficients = share([lower(c) for c in group.coefficients])
    used = symbols_of([*coefficients, *(e for _, e in (*definitions, *shared))])
    lines = [
        *unpacked(system.states, used, "y"),
        *unpacked(parameters, used, "p"),
        *(["beta = beta_now"] if BETA in used else []),
    ]
    lines += [f"{s.name} = {printer.text(e)}" for s, e in (*definitions, *shared)]
    place = Layout(averages.patterns[g]).coefficients
    lines += [f"scratch[{place + k}] = {printer.text(c)}" for k, c in enumerate(coefficients)]
    row = len(averages.tabulated) + g
    lines += [f"moments_{function}(tables, layout[{row}, 0], layout[{row}, 1], scratch, flag)"]
    return device_function(f"group_{g}", "beta_now, y, p, tables, layout, scratch, flag", lines)


def averages_from_moments(
    averages: SystemAverages, surfaces: Mapping[int, tuple[sp.Expr, ...]], printer: ScalarPrinter
) -> tuple[dict[Expectation, sp.Expr], list[str], dict[sp.Symbol, int]]:
    """Every average over several variables as a combination of moments.

    Also the lines that compute the moments, and the rows of `means` of those moments that each lane has for itself. The
    lines for these use the text WORK for the rows behind all means.
    """
    combinations: dict[Expectation, sp.Expr] = {}
    lines = [f"scratch[{COUNTER}] = {printer.literal(sp.S.Zero)}"] if len(surfaces) < len(averages.groups) else []
    rows: dict[sp.Symbol, int] = {}
    for g, (group, pattern) in enumerate(zip(averages.groups, averages.patterns, strict=True)):
        moments = sorted(group.moments) if g in surfaces else pattern.moments
        names = {m: sp.Symbol(f"moment_{g}_{k}", real=True) for k, m in enumerate(moments)}
        for average, combination in group.averages.items():
            combinations[average] = sp.Add(*(c * names[m] for m, c in combination.items()))
        if g in surfaces:
            lines.append(f"group_{g}(y, means[{len(rows)} * LANES :], {WORK}, p, tables, layout)")
            rows |= {name: len(rows) + k for k, name in enumerate(names.values())}
            continue
        place = Layout(pattern).moments
        lines.append(f"group_{g}(betas[0], y, p, tables, layout, scratch, flag)")
        lines += [
            f"{name.name} = scratch[{place + k}]" for k, (m, name) in enumerate(names.items()) if m in group.moments
        ]
    return combinations, lines, rows
