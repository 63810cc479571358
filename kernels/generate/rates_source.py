"""The source of `own_rates`, a system's right-hand sides, and of `own_gram`, the Gram matrix of its domain."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.system import BETA, OdeSystem
from kernels.generate.average_source import WORK, averages_from_moments
from kernels.generate.printer import ScalarPrinter
from kernels.generate.source_text import device_function, for_each_lane, states_of_lane, symbols_of, unpacked
from kernels.generate.system_calls import FUNCTIONS
from kernels.lower.analysis import SystemAverages, TablePlace, written_out
from kernels.lower.lowering import lower, share


def gram_function(system: OdeSystem, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter, decorator: str) -> str:
    """The text of `own_gram`.

    `own_gram` writes the lower triangle of the Gram matrix into the rows of `matrix`, and returns the size of the Gram
    matrix.
    """
    matrix = system.gram
    size = matrix.shape[0]
    used = matrix.free_symbols
    entries = [
        f"matrix[{i * size + j} * LANES + lane] = {printer.text(lower(matrix[i, j]))}"
        for i in range(size)
        for j in range(i + 1)
    ]
    lines = for_each_lane([*states_of_lane(system.states, used), *entries]) if entries else []
    lines = [*unpacked(parameters, used, "p"), *lines, f"return {size}"]
    return device_function("own_gram", FUNCTIONS["gram"], lines, decorator)


def rates_function(
    averages: SystemAverages,
    surfaces: Mapping[int, TablePlace],
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
    decorator: str,
) -> tuple[str, int]:
    """The text of `own_rates`, and the number of rows of `means` that it fills: one per moment or average of a lane.

    `own_rates` writes the rates of each lane to the rows of `dy`.
    """
    system = averages.system
    combinations, moment_lines, moments = averages_from_moments(averages, surfaces, printer)
    calls: dict[Expectation, sp.Symbol] = {}

    def without_averages(expression: sp.Expr) -> sp.Expr:
        expression = written_out(expression.xreplace(combinations), system)
        found = sorted(expression.atoms(Expectation), key=sp.default_sort_key)
        names = {a: calls.setdefault(a, sp.Symbol(f"mean_{len(calls)}", real=True)) for a in found}
        return lower(expression.xreplace(names))

    definitions = {s: without_averages(e) for s, e in system.subexpressions if e.has(Expectation)}
    right = [without_averages(e) for e in system.rhs]
    shared, right = share([e.xreplace(definitions) for e in right])
    used = symbols_of([*right, *(e for _, e in shared)])
    of_lane = [*states_of_lane(system.states, used), *([] if BETA not in used else ["beta = betas[lane]"])]
    rows = {**moments, **{name: len(moments) + n for n, name in enumerate(calls.values())}}
    work = f"means[{len(rows)} * LANES :]"
    of_lane += [f"{name.name} = means[{row} * LANES + lane]" for name, row in rows.items() if name in used]
    of_lane += [f"{s.name} = {printer.text(e)}" for s, e in shared]
    of_lane += [f"dy[{n} * LANES + lane] = {printer.text(e)}" for n, e in enumerate(right)]
    lines = ["if halted(flag):", "    return"]
    lines += [*unpacked(parameters, used, "p"), *(line.replace(WORK, work) for line in moment_lines)]
    lines += [_call_of_average(rows[name], work, *averages.table_of(a)) for a, name in calls.items()]
    return device_function("own_rates", FUNCTIONS["rates"], [*lines, *for_each_lane(of_lane)], decorator), len(rows)


def _call_of_average(row: int, work: str, table: int, state: int | None) -> str:
    """The line that evaluates an average into a row of `means`."""
    x, mean = (f"{array}[{r} * LANES : {r + 1} * LANES]" for array, r in (("y", state or 0), ("means", row)))
    return f"average_{table}({x}, y, {mean}, {work}, p, tables, layout, ranges)"
