"""From an OdeSystem and a schedule to the source of one module, for the CPU or for CUDA.

Only the structure is in the source. Parameter values, and the tables behind the averages, are arrays given at run time,
so a sweep over R, w* or T0 compiles nothing. Averages over one variable that differ only in the state they look at
share one function and one table. Averages over several variables are summed by `lattice_code`, those of the same shares
in one pass.
"""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.system import BETA, TIME, OdeSystem
from derive.problem.interpolation import Interpolated, Numbers
from kernels.generate.entry_source import entry_functions
from kernels.generate.lattice_code import COUNTER, Layout, lattice_functions, scratch_size
from kernels.generate.printer import ScalarPrinter
from kernels.generate.tableau import dop853, tableau_constants
from kernels.lower.lattice import Group, Pattern, definitions_for, groups_of, is_lattice_average, patterns_of
from kernels.lower.lowering import hoisted, lower, share

ARGUMENT = sp.Symbol("argument", real=True)
CLENSHAW_ROWS = 3
FIRST_LEVEL_CACHE = 24 * 1024
"""Bytes for the slopes of all stages: half of what today's cores have, so that the tables fit beside."""

_TAKEN = re.compile(
    r"argument|beta|beta_now|betas|clenshaw|count|dy|exp|flag|halted|j|lane|layout|log|math|matrix|mean|means|p|ranges|scratch|start|t|tables|tanh"
    r"|weight|work|x|y|abs|max|min|range|float32|float64|real|LANES|WIDTH"
    r"|(average|constant|group|level|mean|moments|shared)_\d+|moment_\d+_\d+|interpolated"
)


@dataclass(frozen=True)
class Average:
    """One average to tabulate. expression: with its only state, if it has just one, replaced by ARGUMENT; every named
    subexpression that contains no average is written out.

    state: index of that state, for its interval; None when the average looks at several states. by_proxy: Clenshaw or a
    sum.
    """

    expression: Expectation
    state: int | None
    by_proxy: bool


@dataclass(frozen=True)
class Program:
    """source: the module's text. averages: in the order of their tables. parameters: the order of the run-time values.

    lanes: how many trajectories advance together.
    """

    source: str
    averages: tuple[Average, ...]
    parameters: tuple[sp.Symbol, ...]
    lanes: int


_HEADER = {
    "cpu": """import numpy as np
from numba import njit
from numpy import int64, {real}

from kernels.machine.halting import halted
from kernels.machine.kept_code import kept
from {library} import exp, log, tanh

real = {real}
device = njit(error_model='numpy', fastmath={{'contract'}}, no_cpython_wrapper=True, no_cfunc_wrapper=True)
entry = kept(njit(nogil=True, error_model='numpy', fastmath={{'contract'}}))
""",
    "cuda": """from math import exp, log, tanh

import numpy as np
from numba import cuda
from numpy import int64, {real}

from kernels.machine.cuda_functions import halted

real = {real}
device = cuda.jit(device=True)
""",
}

_FUSED = {
    "cpu": "fused = njit(error_model='numpy', fastmath={'contract', 'reassoc'}, "
    "no_cpython_wrapper=True, no_cfunc_wrapper=True)\n",
    "cuda": "fused = device\n",
}
"""The innermost loops of lattice averages are sums of many terms of a size, which only vectorise if they may be added
in any order."""


def lanes_for(states: int, target: str, has_lattices: bool) -> int:
    """How many trajectories the CPU advances together: enough to hide an instruction's latency behind the other lanes,
    while the slopes of a step's stages stay in the first-level cache. One where the averages over several variables
    fill the vector registers by themselves, and one for each thread on CUDA."""
    if target == "cuda" or has_lattices:
        return 1
    return next((lanes for lanes in (32, 16) if lanes * states * 13 * 8 <= FIRST_LEVEL_CACHE), 8)


def generate(
    system: OdeSystem,
    beta: sp.Expr,
    schedule_parameters: tuple[sp.Symbol, ...],
    proxies: dict[int, bool],
    target: str,
    precision: str = "float64",
) -> Program:
    """The program of a system under a schedule. proxies: for each distinct average by index, whether a proxy serves it.

    target: "cpu" or "cuda". precision: "float64" or "float32", of every number that the program handles. Raises
    TypeError for a node without a kernel form, ValueError for a stray symbol or a name that the program cannot use.
    """
    stray = beta.free_symbols - {TIME, *schedule_parameters}
    if stray:
        raise ValueError(f"the schedule contains {sorted(map(str, stray))}, which are not its parameters")
    parameters = (*system.parameters, *schedule_parameters)
    printer = ScalarPrinter(precision)
    averages, groups = distinct_averages(system), groups_of(system)
    if groups and precision != "float64":
        raise ValueError(f"averages over several variables need float64, not {precision}")
    patterns = patterns_of(groups)
    definitions = definitions_for([c for group in groups for c in group.coefficients], system)
    _require_usable_names(
        [*system.states, *parameters, *(v for e, _ in averages for v in e.variables), *(s for s, _ in definitions)]
    )
    found = tuple(Average(e, s, proxies.get(n, False)) for n, (e, s) in enumerate(averages))
    title = f"Generated by annealvi from the derived system {system.label!r}; do not edit."
    lanes, scratch, gram = (
        lanes_for(len(system.states), target, bool(groups)),
        scratch_size(patterns),
        system.gram.shape[0] ** 2,
    )
    rates, calls = _rates_function(system, parameters, averages, groups, patterns, printer)
    functions = [_average_function(n, average, system, parameters, printer) for n, average in enumerate(found)]
    rows = calls + max([CLENSHAW_ROWS, *(kept for _, kept in functions)])
    sizes = {
        "STATES": len(system.states),
        "LANES": lanes,
        "SCRATCH": scratch,
        "MEAN_ROWS": rows,
        "GRAM_ENTRIES": max(1, gram),
    }
    blocks = [
        f"{title!r}\n\nimport math\n\n"
        + _HEADER[target].format(
            real=precision, library="kernels.machine.vector_math" if precision == "float64" else "math"
        ),
        "\n".join([*(f"{name} = {size}" for name, size in sizes.items()), "WIDTH = STATES * LANES"]),
        tableau_constants(dop853(), printer),
        *(_in_precision(f"{name}.py", printer) for name in ("integrator", "shooting", "rates", "schedule")),
        *(text for text, _ in functions),
        *_lattice_blocks(groups, patterns, len(found), system, parameters, printer, target),
        _beta_function(beta, parameters, printer),
        _gram_function(system, parameters, printer),
        rates,
        *entry_functions(target),
    ]
    # A called function is looked up when its caller is first compiled, so the order of the blocks is free.
    return Program("\n\n\n".join(block.strip() for block in blocks) + "\n", found, parameters, lanes)


def distinct_averages(system: OdeSystem) -> list[tuple[Expectation, int | None]]:
    """Every average over one variable with its only state (if just one) replaced by ARGUMENT, and that state's index.

    States of different intervals share no average, since its table is made for one.
    """
    found: dict[tuple, tuple[Expectation, int | None]] = {}
    for average in _averages_in_order(system):
        shape, state = _shape(average, system)
        found.setdefault(_table_key(shape, state, system), (shape, state))
    return list(found.values())


def written_out(expression: sp.Expr, system: OdeSystem) -> sp.Expr:
    """The expression with every named subexpression that contains no average replaced by its definition."""
    for symbol, definition in reversed(system.subexpressions):
        if not definition.has(Expectation):
            expression = expression.xreplace({symbol: definition})
    return expression


def _averages_in_order(system: OdeSystem) -> list[Expectation]:
    expressions = [*(e for _, e in system.subexpressions), *system.rhs]
    found = ([written_out(a, system) for a in e.atoms(Expectation) if not is_lattice_average(a)] for e in expressions)
    return [a for averages in found for a in sorted(averages, key=sp.default_sort_key)]


def _shape(average: Expectation, system: OdeSystem) -> tuple[Expectation, int | None]:
    states = sorted(average.free_symbols & set(system.states), key=system.states.index)
    if len(states) != 1:
        return average, None
    return average.xreplace({states[0]: ARGUMENT}), system.states.index(states[0])


def _table_key(shape: Expectation, state: int | None, system: OdeSystem) -> tuple:
    return shape, None if state is None else system.variables[state].interval


def _require_usable_names(symbols: list[sp.Symbol]) -> None:
    names = [s.name for s in dict.fromkeys(symbols)]
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or _TAKEN.fullmatch(name):
            raise ValueError(f"a kernel cannot use the name {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"two symbols share a name: {sorted(names)}")


def _copied_text(module: str) -> str:
    """The functions of a module that is kept as plain Python for its own sake."""
    source = (Path(__file__).parent / "templates" / module).read_text(encoding="utf-8")
    return source.split("# The copied text begins below this line.\n", 1)[1]


def _in_precision(module: str, printer: ScalarPrinter) -> str:
    """The functions of such a module with every float literal in the printer's precision."""
    text = _copied_text(module)
    lines = text.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        if token.type == tokenize.NUMBER and not token.string.isdigit():
            (row, first), (_, last) = token.start, token.end
            line = lines[row - 1]
            lines[row - 1] = line[:first] + printer.literal(sp.Float(token.string, 17)) + line[last:]
    return "".join(lines)


def _unpack(symbols: tuple[sp.Symbol, ...], used: set[sp.Symbol], array: str) -> list[str]:
    return [f"{s.name} = {array}[{n}]" for n, s in enumerate(symbols) if s in used]


def _function(name: str, arguments: str, lines: list[str]) -> str:
    return f"@device\ndef {name}({arguments}):\n" + "\n".join(f"    {line}" for line in lines)


def _for_each_lane(lines: list[str]) -> list[str]:
    return ["for lane in range(LANES):", *(f"    {line}" for line in lines)]


def _states_of_lane(states: tuple[sp.Symbol, ...], used: set[sp.Symbol]) -> list[str]:
    return [f"{s.name} = y[{n} * LANES + lane]" for n, s in enumerate(states) if s in used]


def _average_function(
    n: int, average: Average, system: OdeSystem, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter
) -> tuple[str, int]:
    """The function that writes an average's values into mean (LANES,), and how many rows of lanes it works in.

    x: (LANES,) the only state that it looks at, if it is just one; y: all states.
    """
    arguments = "x, y, mean, work, p, tables, layout, ranges"
    if average.by_proxy:
        where = f"layout[{n}, 0], layout[{n}, 1], ranges[{n}, 0], ranges[{n}, 1]"
        return _function(f"average_{n}", arguments, [f"clenshaw(tables, {where}, x, mean, work)"]), CLENSHAW_ROWS
    integrand, (z,) = average.expression.integrand, average.expression.variables
    outside, inside = hoisted(lower(integrand), {z})

    def of_lane(used: set[sp.Symbol]) -> list[str]:
        return [*(["argument = x[lane]"] if ARGUMENT in used else []), *_states_of_lane(system.states, used)]

    before = set().union(*(e.free_symbols for _, e in outside))
    keep = [f"work[{k} * LANES + lane] = {printer.text(e)}" for k, (_, e) in enumerate(outside)]
    recall = [f"{s.name} = work[{k} * LANES + lane]" for k, (s, _) in enumerate(outside)]
    add = f"mean[lane] += weight * ({printer.text(inside)})"
    lines = [
        *_unpack(parameters, average.expression.free_symbols, "p"),
        *_for_each_lane([*of_lane(before), *keep, f"mean[lane] = {printer.literal(sp.S.Zero)}"]),
        f"start, count = layout[{n}, 0], layout[{n}, 1]",
        "for j in range(count):",
        f"    {z.name} = tables[start + j]",
        "    weight = tables[start + count + j]",
        *(f"    {line}" for line in _for_each_lane([*of_lane(inside.free_symbols), *recall, add])),
    ]
    return _function(f"average_{n}", arguments, lines), len(outside)


def _lattice_blocks(
    groups: list[Group],
    patterns: list[Pattern],
    first: int,
    system: OdeSystem,
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
    target: str,
) -> list[str]:
    """All functions of the averages over several variables; `first` is the row of the first group's table in the
    layout."""
    if not groups:
        return []
    distinct = list(dict.fromkeys(patterns))
    functions = [text for n, pattern in enumerate(distinct) for text in lattice_functions(n, pattern)]
    for g, (group, pattern) in enumerate(zip(groups, patterns, strict=True)):
        functions.append(
            _group_function(g, first + g, distinct.index(pattern), group, pattern, system, parameters, printer)
        )
    return [_FUSED[target], _copied_text("lattice.py"), *functions]


def _group_function(
    g: int,
    row: int,
    function: int,
    group: Group,
    pattern: Pattern,
    system: OdeSystem,
    parameters: tuple[sp.Symbol, ...],
    printer: ScalarPrinter,
) -> str:
    """The logits' coefficients at a state, put where the pattern's function reads them."""
    definitions = [(s, lower(e)) for s, e in definitions_for(group.coefficients, system)]
    shared, coefficients = share([lower(c) for c in group.coefficients])
    used = set().union(*(e.free_symbols for e in (*coefficients, *(e for _, e in (*definitions, *shared)))))
    lines = [
        *_unpack(system.states, used, "y"),
        *_unpack(parameters, used, "p"),
        *(["beta = beta_now"] if BETA in used else []),
    ]
    lines += [f"{s.name} = {printer.text(e)}" for s, e in (*definitions, *shared)]
    place = Layout(pattern).coefficients
    lines += [f"scratch[{place + k}] = {printer.text(c)}" for k, c in enumerate(coefficients)]
    lines += [f"moments_{function}(tables, layout[{row}, 0], layout[{row}, 1], scratch, flag)"]
    return _function(f"group_{g}", "beta_now, y, p, tables, layout, scratch, flag", lines)


def rows_as_parameters(beta: sp.Expr) -> tuple[sp.Expr, dict[sp.Symbol, float]]:
    """The schedule with a symbol for each number of its rows of points, and the numbers: so another table compiles
    nothing anew."""
    values: dict[sp.Symbol, float] = {}
    named: dict[sp.Expr, sp.Expr] = {}
    nodes = [node for node in sp.preorder_traversal(beta) if isinstance(node, Interpolated)]
    rows = dict.fromkeys(row for node in nodes for row in node.args[1:] if isinstance(row, Numbers))
    for k, row in enumerate(rows):
        symbols = [sp.Symbol(f"row_{k}_{n}", real=True) for n in range(len(row.given))]
        values.update(zip(symbols, row.doubles, strict=True))
        named[row] = sp.Tuple(*symbols)
    return beta.xreplace(named), values


def _beta_function(beta: sp.Expr, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter) -> str:
    """`beta_at`. What it interpolates it reads where the parameters are, and so its points must stand there side by
    side."""
    place = {s: n for n, s in enumerate(parameters)}
    calls: dict[sp.Expr, sp.Expr] = {}
    lines = []
    for node in sorted(beta.atoms(Interpolated), key=lambda node: [place[s] for s in (*node.args[1], *node.args[2])]):
        time, times, levels = node.args
        first = [place[row[0]] for row in (times, levels)]
        if any(
            [place[s] for s in row] != list(range(n, n + len(row)))
            for n, row in zip(first, (times, levels), strict=True)
        ):
            raise ValueError("the points of an interpolation must be neighbours among the parameters")
        calls[node] = sp.Symbol(f"level_{len(calls)}", real=True)
        lines.append(
            f"{calls[node].name} = interpolated({printer.text(time)}, p, {first[0]}, {first[1]}, {len(times)})"
        )
    beta = beta.xreplace(calls)
    used = beta.free_symbols.union(*(node.args[0].free_symbols for node in calls))
    return _function("beta_at", "t, p", [*_unpack(parameters, used, "p"), *lines, f"return {printer.text(beta)}"])


def _gram_function(system: OdeSystem, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter) -> str:
    """The lower triangle of the Gram matrix, each entry a row of `matrix`; returns the matrix's size."""
    matrix = system.gram
    size = matrix.shape[0]
    used = matrix.free_symbols
    entries = [
        f"matrix[{i * size + j} * LANES + lane] = {printer.text(lower(matrix[i, j]))}"
        for i in range(size)
        for j in range(i + 1)
    ]
    lines = _for_each_lane([*_states_of_lane(system.states, used), *entries]) if entries else []
    return _function("gram", "y, p, matrix", [*_unpack(parameters, used, "p"), *lines, f"return {size}"])


def _rates_function(
    system: OdeSystem,
    parameters: tuple[sp.Symbol, ...],
    averages: list[tuple[Expectation, int | None]],
    groups: list[Group],
    patterns: list[Pattern],
    printer: ScalarPrinter,
) -> tuple[str, int]:
    """The function that writes each lane's rates to the rows of `dy`, and how many averages over one variable it calls
    for."""
    lattice, moment_lines = _from_moments(groups, patterns, printer)
    index = {_table_key(shape, state, system): n for n, (shape, state) in enumerate(averages)}
    calls: dict[Expectation, sp.Symbol] = {}

    def call(average: Expectation) -> sp.Symbol:
        return calls.setdefault(average, sp.Symbol(f"mean_{len(calls)}", real=True))

    def call_line(average: Expectation, row: int) -> str:
        shape, state = _shape(average, system)
        n = index[_table_key(shape, state, system)]
        rows = [f"{array}[{r} * LANES : {r + 1} * LANES]" for array, r in (("y", state or 0), ("means", row))]
        return f"average_{n}({rows[0]}, y, {rows[1]}, means[{len(calls)} * LANES :], p, tables, layout, ranges)"

    def without_averages(expression: sp.Expr) -> sp.Expr:
        expression = written_out(expression.xreplace(lattice), system)
        return lower(
            expression.xreplace({a: call(a) for a in sorted(expression.atoms(Expectation), key=sp.default_sort_key)})
        )

    definitions = {s: without_averages(e) for s, e in system.subexpressions if e.has(Expectation)}
    right = [without_averages(e) for e in system.rhs]
    right = [e.xreplace(definitions) for e in right]
    shared, right = share(right)
    used = set().union(*(e.free_symbols for e in (*right, *(e for _, e in shared))))
    of_lane = [*_states_of_lane(system.states, used), *([] if BETA not in used else ["beta = betas[lane]"])]
    of_lane += [f"{name.name} = means[{row} * LANES + lane]" for row, name in enumerate(calls.values()) if name in used]
    of_lane += [f"{s.name} = {printer.text(e)}" for s, e in shared]
    of_lane += [f"dy[{n} * LANES + lane] = {printer.text(e)}" for n, e in enumerate(right)]
    lines = ["if halted(flag):", "    return"]
    lines += [*_unpack(parameters, used, "p"), *moment_lines, *(call_line(a, row) for row, a in enumerate(calls))]
    arguments = "betas, y, p, tables, layout, ranges, dy, means, scratch, flag"
    return _function("rates", arguments, [*lines, *_for_each_lane(of_lane)]), len(calls)


def _from_moments(
    groups: list[Group], patterns: list[Pattern], printer: ScalarPrinter
) -> tuple[dict[Expectation, sp.Expr], list[str]]:
    """Every average over several variables as a combination of moments, and the lines that compute these."""
    lattice: dict[Expectation, sp.Expr] = {}
    lines = [f"scratch[{COUNTER}] = {printer.literal(sp.S.Zero)}"] if groups else []
    for g, (group, pattern) in enumerate(zip(groups, patterns, strict=True)):
        names = {m: sp.Symbol(f"moment_{g}_{k}", real=True) for k, m in enumerate(pattern.moments)}
        for average, combination in group.averages.items():
            lattice[average] = sp.Add(*(c * names[m] for m, c in combination.items()))
        place = Layout(pattern).moments
        lines.append(f"group_{g}(betas[0], y, p, tables, layout, scratch, flag)")
        lines += [
            f"{name.name} = scratch[{place + k}]" for k, (m, name) in enumerate(names.items()) if m in group.moments
        ]
    return lattice, lines
