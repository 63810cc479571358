"""Coefficients of an explicit Runge–Kutta pair, which checks its own order conditions when made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import DOP853


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
        close = {"rtol": 0.0, "atol": 1e-13}
        conditions = [np.allclose(np.triu(self.A), 0, **close), np.allclose(self.A.sum(1), self.C, **close)]
        conditions += [np.isclose(self.B @ self.C ** (k - 1), 1 / k, **close) for k in range(1, self.order + 1)]
        conditions += [np.isclose(self.B @ self.A @ self.C**k, 1 / ((k + 1) * (k + 2)), **close) for k in range(self.order - 1)]
        conditions += [np.isclose(self.E3.sum(), 0, **close), np.isclose(self.E5.sum(), 0, **close)]
        if not all(conditions):
            raise ValueError(f"{self.name} does not satisfy its order conditions")


def dop853() -> Tableau:
    """Dormand and Prince's pair of order 8 with error estimators of orders 5 and 3, coefficients from SciPy's public class."""
    return Tableau("DOP853", 8, np.array(DOP853.A), np.array(DOP853.B), np.array(DOP853.C), np.array(DOP853.E3), np.array(DOP853.E5))
