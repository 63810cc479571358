"""The coefficients of an explicit Runge–Kutta pair. A tableau checks its order conditions when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy as sp
from scipy.integrate import DOP853

from kernels.generate.printer import ScalarPrinter


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge–Kutta pair of s stages.

    Attributes
    ----------
    name
        The name of the pair.
    order
        The order of the method.
    A
        (s, s), strictly lower triangular.
    B, C
        (s,) each.
    E3, E5
        (s + 1,) the error estimators of orders 3 and 5, which also use the slope at the end of the step.
    """

    name: str
    order: int
    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    E3: np.ndarray
    E5: np.ndarray

    def __post_init__(self) -> None:
        """Check the row sums, the conditions Σ b c^(k−1) = 1/k up to the order, and Σ b_i a_ij c_j^k = 1/((k+1)(k+2)).

        The coefficients are rounded to double precision, so the check allows some hundred roundings.
        """
        A, B, C = self.A, self.B, self.C
        wrong = [np.abs(np.triu(A)).max(), np.abs(A.sum(1) - C).max(), abs(self.E3.sum()), abs(self.E5.sum())]
        wrong += [abs(B @ C ** (k - 1) - 1 / k) for k in range(1, self.order + 1)]
        wrong += [abs(B @ A @ C**k - 1 / ((k + 1) * (k + 2))) for k in range(self.order - 1)]
        if not max(wrong) <= 1e-13:
            raise ValueError(f"{self.name} does not satisfy its order conditions")


def tableau_constants(pair: Tableau, printer: ScalarPrinter) -> str:
    """The text of the constants of a pair.

    FRACTIONS[s] and COEFFICIENTS[s] give the time and the state at which stage s evaluates the rates; the last stage is
    the end of the step. ERRORS holds the two error estimators, that of order 5 first.
    """
    steps = np.vstack([pair.A, pair.B])
    tables = {"FRACTIONS": np.array([*pair.C, 1.0]), "COEFFICIENTS": steps, "ERRORS": np.array([pair.E5, pair.E3])}
    return "\n".join(
        [
            f"STAGES = {len(pair.B)}",
            *(f"{name} = np.array({_list(values, printer)})" for name, values in tables.items()),
        ]
    )


def _list(values: np.ndarray, printer: ScalarPrinter) -> str:
    inner = (_list(v, printer) if v.ndim else printer.literal(sp.Float(v, 17)) for v in values)
    return f"[{', '.join(inner)}]"


def dop853() -> Tableau:
    """Dormand and Prince's pair of order 8, with error estimators of orders 5 and 3.

    The coefficients are those of SciPy's public class.
    """
    return Tableau(
        "DOP853",
        8,
        np.array(DOP853.A),
        np.array(DOP853.B),
        np.array(DOP853.C),
        np.array(DOP853.E3),
        np.array(DOP853.E5),
    )
