"""The coefficients of RKC, a Runge–Kutta–Chebyshev method of order 2 with many stages.

Reference: Sommeijer, Shampine and Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput. Appl. Math. 88 (1998).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sympy as sp

from kernels.generate.printer import ScalarPrinter

DAMPING = 2 / 13
MOST_PARTS = 5
"""The most parts of a step, each of which evaluates the rates as often as a step of DOP853."""


def stage_rows(stages: int) -> np.ndarray:
    """The rows (stages + 2, 6) of a step of the given number of stages s, one for each evaluation of the rates.

    The first two evaluations measure the radius at the end of the step, and the third is at stage 1. A row holds the
    time of its evaluation as a fraction of the step, and the coefficients with which the following stage combines the
    first state, the stage of the evaluation and the one before, and h times the slopes at the evaluation and at the
    first state. The coefficients of the first and the last row are not used.
    """
    w_0 = 1 + DAMPING / stages**2
    T = np.polynomial.chebyshev.Chebyshev.basis
    values = np.array([[T(j)(w_0), T(j).deriv(1)(w_0), T(j).deriv(2)(w_0)] for j in range(stages + 1)])
    t, slope, bend = values.T
    w_1 = slope[-1] / bend[-1]
    b = np.ones(stages + 1)
    b[2:] = bend[2:] / slope[2:] ** 2
    b[:2] = b[2]
    a = 1 - b * t
    c = np.zeros(stages + 1)
    c[2:] = w_1 * bend[2:] / slope[2:]
    c[1] = c[2] / slope[2]
    rows = np.zeros((stages + 2, 6))
    rows[:, 0] = [1, 1, *c[1:]]
    rows[1, 1:] = [1, 0, 0, 0, b[1] * w_1]
    for j in range(2, stages + 1):
        mu, nu, of_slope = 2 * b[j] * w_0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w_1 / b[j - 1]
        rows[j, 1:] = [1 - mu - nu, mu, nu, of_slope, -a[j - 1] * of_slope]
    return rows


def longest_stable_step(stages: int) -> float:
    """The longest stable step on the negative real axis, times the radius."""
    w_0 = 1 + DAMPING / stages**2
    T = np.polynomial.chebyshev.Chebyshev.basis(stages)
    return float((w_0 + 1) * T.deriv(2)(w_0) / T.deriv(1)(w_0))


def chebyshev_constants(evaluations: int, printer: ScalarPrinter) -> str:
    """The text of the constants of steps of 1 to MOST_PARTS parts of so many evaluations each.

    LONGEST[parts] is the longest stable step times the radius. CHEBYSHEV holds the rows of `stage_rows`, from those of
    one part on.
    """
    stages = [parts * evaluations - 2 for parts in range(1, MOST_PARTS + 1)]
    rows = np.concatenate([stage_rows(s) for s in stages])
    longest = [0.0, *map(longest_stable_step, stages)]

    def numbers(values: Iterable[float]) -> str:
        return f"[{', '.join(printer.literal(sp.Float(v, 17)) for v in values)}]"

    table = f"[{', '.join(map(numbers, rows))}]"
    return f"MOST_PARTS = {MOST_PARTS}\nLONGEST = np.array({numbers(longest)})\nCHEBYSHEV = np.array({table})"
