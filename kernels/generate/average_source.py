"""The source of a system's averages.

There is one function per table, and one function per group of averages over several variables.
"""

from __future__ import annotations

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.system import BETA
from kernels.generate.lattice_code import COUNTER, Layout, lattice_functions
from kernels.generate.printer import ScalarPrinter
from kernels.generate.source_text import device_function, for_each_lane, states_of_lane, symbols_of, unpacked
from kernels.generate.template_source import copied_text
from kernels.lower.analysis import ARGUMENT, SystemAverages
from kernels.lower.lattice import definitions_for
from kernels.lower.lowering import hoisted, lower, share

CLENSHAW_ROWS = 3
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


def lattice_blocks(
    averages: SystemAverages, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter, target: str
) -> list[str]:
    """The texts of all functions for averages over several variables; groups of one pattern share a function."""
    if not averages.groups:
        return []
    distinct = list(dict.fromkeys(averages.patterns))
    functions = [text for n, pattern in enumerate(distinct) for text in lattice_functions(n, pattern)]
    functions += [
        _group_function(g, distinct.index(pattern), averages, parameters, printer)
        for g, pattern in enumerate(averages.patterns)
    ]
    return [FUSED[target], copied_text("lattice"), *functions]


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
    averages: SystemAverages, printer: ScalarPrinter
) -> tuple[dict[Expectation, sp.Expr], list[str]]:
    """Every average over several variables as a combination of moments, and the lines that compute the moments."""
    combinations: dict[Expectation, sp.Expr] = {}
    lines = [f"scratch[{COUNTER}] = {printer.literal(sp.S.Zero)}"] if averages.groups else []
    for g, (group, pattern) in enumerate(zip(averages.groups, averages.patterns, strict=True)):
        names = {m: sp.Symbol(f"moment_{g}_{k}", real=True) for k, m in enumerate(pattern.moments)}
        for average, combination in group.averages.items():
            combinations[average] = sp.Add(*(c * names[m] for m, c in combination.items()))
        place = Layout(pattern).moments
        lines.append(f"group_{g}(betas[0], y, p, tables, layout, scratch, flag)")
        lines += [
            f"{name.name} = scratch[{place + k}]" for k, (m, name) in enumerate(names.items()) if m in group.moments
        ]
    return combinations, lines
