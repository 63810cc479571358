"""Coefficients of an explicit Runge–Kutta pair, which checks its own order conditions when made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from scipy.integrate import DOP853

from kernels.printer import ScalarPrinter


@dataclass(frozen=True)
class Tableau:
    """A: (s, s) strictly lower triangular; B, C: (s,); E3, E5: (s + 1,), error estimators that also use the derivative at the end."""

    name: str
    order: int
    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    E3: np.ndarray
    E5: np.ndarray

    def __post_init__(self) -> None:
        """Row sums, the quadrature conditions Σ b c^(k−1) = 1/k up to the order, and Σ b_i a_ij c_j^k = 1/((k+1)(k+2)).

        The coefficients are rounded to double precision, hence the allowance of some hundred roundings.
        """
        A, B, C = self.A, self.B, self.C
        wrong = [np.abs(np.triu(A)).max(), np.abs(A.sum(1) - C).max(), abs(self.E3.sum()), abs(self.E5.sum())]
        wrong += [abs(B @ C ** (k - 1) - 1 / k) for k in range(1, self.order + 1)]
        wrong += [abs(B @ A @ C**k - 1 / ((k + 1) * (k + 2))) for k in range(self.order - 1)]
        if not max(wrong) <= 1e-13:
            raise ValueError(f"{self.name} does not satisfy its order conditions")


def tableau_functions(pair: Tableau, printer: ScalarPrinter) -> list[str]:
    """The texts of a pair's constants and of its two sums over stages, without the terms whose coefficient is zero.

    combine(s, …): the state at which stage s is taken, the last one's being the step's end. add_errors(…): the squared norms of the two
    error estimates relative to the tolerance, before division by the number of states, in rows FIFTH and THIRD of `clock`; row FLAW is
    zero where the new state is finite.
    """
    rows = [*pair.A[1:], pair.B]
    branches = []
    for s, row in enumerate(rows, start=1):
        branches += [
            f"    {'if' if s == 1 else 'elif'} s == {s}:",
            "        for i in range(STATES):",
            "            for lane in range(LANES):",
            "                n = i * LANES + lane",
            f"                trial[n] = y[n] + clock[NOW * LANES + lane] * ({_stage_sum(row, printer)})",
        ]
    zero = printer.literal(sp.S.Zero)
    errors = [
        "    for lane in range(LANES):",
        *(f"        clock[{row} * LANES + lane] = {zero}" for row in ("FIFTH", "THIRD", "FLAW")),
        "    for i in range(STATES):",
        "        for lane in range(LANES):",
        "            n = i * LANES + lane",
        "            scale = atol + rtol * max(abs(y[n]), abs(trial[n]))",
        *(
            line
            for name, row in (("FIFTH", pair.E5), ("THIRD", pair.E3))
            for line in (f"            e = ({_stage_sum(row, printer)}) / scale", f"            clock[{name} * LANES + lane] += e * e")
        ),
        f"            clock[FLAW * LANES + lane] += {zero} * trial[n]",
    ]
    fractions = ", ".join(printer.literal(sp.Float(c, 17)) for c in (*pair.C, 1.0))
    return [
        f"STAGES = {len(rows)}\nFRACTIONS = ({fractions})",
        "\n".join(["@device", "def combine(s, y, K, clock, trial):", *branches]),
        "\n".join(["@device", "def add_errors(y, trial, K, rtol, atol, clock):", *errors]),
    ]


def _stage_sum(row: np.ndarray, printer: ScalarPrinter) -> str:
    return " + ".join(f"{printer.literal(sp.Float(c, 17))} * K[{r} * WIDTH + n]" for r, c in enumerate(row) if c != 0)


def dop853() -> Tableau:
    """Dormand and Prince's pair of order 8 with error estimators of orders 5 and 3, coefficients from SciPy's public class."""
    return Tableau("DOP853", 8, np.array(DOP853.A), np.array(DOP853.B), np.array(DOP853.C), np.array(DOP853.E3), np.array(DOP853.E5))
