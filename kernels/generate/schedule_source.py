"""The source of a schedule: the function `own_set_betas`, and the points of an interpolation as run-time parameters."""

from __future__ import annotations

import sympy as sp

from derive.objects.system import TIME
from derive.problem.interpolation import Interpolated, Numbers
from kernels.generate.printer import ScalarPrinter
from kernels.generate.source_text import device_function, for_each_lane, symbols_of, unpacked
from kernels.generate.system_calls import FUNCTIONS


def rows_as_parameters(beta: sp.Expr) -> tuple[sp.Expr, dict[sp.Symbol, float]]:
    """The schedule with a symbol for each number in its rows of points, and the values of those symbols.

    The numbers become run-time parameters, so another table of points compiles nothing.
    """
    values: dict[sp.Symbol, float] = {}
    named: dict[sp.Expr, sp.Expr] = {}
    nodes = [node for node in sp.preorder_traversal(beta) if isinstance(node, Interpolated)]
    rows = dict.fromkeys(row for node in nodes for row in node.args[1:] if isinstance(row, Numbers))
    for k, row in enumerate(rows):
        symbols = [sp.Symbol(f"row_{k}_{n}", real=True) for n in range(len(row.given))]
        values.update(zip(symbols, row.doubles, strict=True))
        named[row] = sp.Tuple(*symbols)
    return beta.xreplace(named), values


def betas_function(beta: sp.Expr, parameters: tuple[sp.Symbol, ...], printer: ScalarPrinter, decorator: str) -> str:
    """The text of `own_set_betas`, which replaces the lanes' times by the inverse temperatures at these times.

    The function reads the points of an interpolation from the array of parameters. Raises ValueError where the points
    are not neighbours in that array.
    """
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
    used = symbols_of([beta, *(node.args[0] for node in calls)])
    of_lane = [f"{TIME.name} = betas[lane]", *lines, f"betas[lane] = {printer.text(beta)}"]
    return device_function(
        "own_set_betas", FUNCTIONS["set_betas"], [*unpacked(parameters, used, "p"), *for_each_lane(of_lane)], decorator
    )
