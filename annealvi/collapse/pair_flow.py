"""The flow of two components under two opposite modes, its averages enclosed by proven bounds.

Two components of equal radius r and scale σ under modes at ±R of scale σ* obey, with z ~ N(0, 1) and h* = ½
log(w*_1/w*_2),

    dm_1/dt = β a_1 F(m_1) (1 − m_1²) − g(s) (m_2 − s m_1),    dm_2/dt = β a_2 F(m_2) (1 − m_2²) − g(s) (m_1 − s m_2),

    a_i = w_i R/(r σ*²),    F(m) = E tanh(R r m/σ*² + h* + (R σ/σ*²) z),
    g(s) = √(w_1 w_2)/(2 σ²) e^{−r² (1 − s)/4σ²} E sech(r √(1 − s)/(√2 σ) z − ½ log(w_1/w_2)).

F grows with m, because F' is a mean of sech². g is positive and grows with s: up to a constant it is w_1 w_2 ∫ φ_1
φ_2/(w_1 φ_1 + w_2 φ_2), which is concave and homogeneous in the two Gaussians, so it falls as the Gaussians move apart
(data processing). Bounds at the ends of a cell therefore hold within the cell.

The trapezoidal rule with step h errs by at most 2 M/(e^{2π d/h} − 1) where the integrand is analytic in |Im z| < d and
its modulus has an integral of at most M along every line there (Trefethen and Weideman, SIAM Review 56, 2014, theorem
5.1). With |b| d <= π/4 neither |tanh(a + bz)| nor |sech(a + bz)| exceeds √2 in the strip, so M <= √2 e^{d²/2}. The
tails beyond the last node Z contribute at most erfc(Z/√2). The bounds include rounding, under the assumption that
NumPy's exp and tanh err by a few units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import erfc

from annealvi.session.session import Session
from kernels.integrate.kernel import Kernel

TRUNCATION = 1e-14
"""Bound of the trapezoidal rule's error."""
LAST_NODE = 8.0
WIDEST_STRIP = 8.0
ROUNDINGS = 64
"""Units in the last place of one by which a kernel's average, or a term of these bounds, may be off."""

MOST_AT_ONCE = 2**20
"""Number of integrand values computed at once, to limit memory."""

Bounds = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PairFlow:
    """The parameters of the flow of a pair of components, in the module's notation.

    Attributes
    ----------
    pulls : tuple of float
        (a_1, a_2).
    field : float
        h*, the part of tanh's argument without m.
    bending : float
        R r/σ*².
    spread : float
        R σ/σ*².
    distance : float
        r/σ.
    balance : float
        ½ log(w_1/w_2).
    strength : float
        √(w_1 w_2)/(2 σ²).
    error : float
        Bound of the error of each average of the running kernel. A statement that holds with this allowance holds for
        the exact flow and for the kernel's.
    """

    pulls: tuple[float, float]
    field: float
    bending: float
    spread: float
    distance: float
    balance: float
    strength: float
    error: float

    @classmethod
    def of(cls, session: Session, kernel: Kernel) -> PairFlow:
        """Return the flow of a session for which `is_pair_on_a_line` holds.

        `error` is twice the tolerance of the kernel's averages, which their measured errors keep to, and some
        roundings. Raises ArithmeticError where the kernel's rates differ from this flow by more than `error`.
        """
        target, proposal = session.problem.target, session.problem.proposal
        R, r = (float(np.linalg.norm(target.means[0])), proposal.radii[0])
        sigma_star, sigma = target.scales[0], proposal.scales[0]
        w_1, w_2 = proposal.weights
        # The state m_i is the cosine with the first mode.
        flow = cls(
            pulls=(w_1 * R / (r * sigma_star**2), w_2 * R / (r * sigma_star**2)),
            field=math.log(target.weights[0] / target.weights[1]) / 2,
            bending=R * r / sigma_star**2,
            spread=R * sigma / sigma_star**2,
            distance=r / sigma,
            balance=math.log(w_1 / w_2) / 2,
            strength=math.sqrt(w_1 * w_2) / (2 * sigma**2),
            error=2 * kernel.request.tolerance + ROUNDINGS * float(np.finfo(kernel.precision).eps),
        )
        flow.require_rates_of(kernel)
        return flow

    def attraction(self, m: np.ndarray) -> Bounds:
        """Return bounds of F at cosines m (n,)."""
        return _enclosed(np.tanh, self.bending * m + self.field, np.full_like(m, self.spread))

    def repulsion(self, s: np.ndarray) -> Bounds:
        """Return bounds of g at cosines s (n,)."""
        apart = np.maximum(1 - s, 0)
        low, high = _enclosed(_sech, np.full_like(s, self.balance), self.distance * np.sqrt(apart / 2))
        factor = self.strength * np.exp(-(self.distance**2) * apart / 4)
        return factor * np.maximum(low, 0), factor * high

    @property
    def repulsion_error(self) -> float:
        """The bound of the error of the kernel's g."""
        return self.strength * self.error

    @cached_property
    def spurious(self) -> float:
        """How far the kernel's g may be below zero; the exact g is positive."""
        return max(0.0, self.repulsion_error - float(self.repulsion(np.array([-1.0]))[0][0]))

    def require_rates_of(self, kernel: Kernel) -> None:
        """Raise ArithmeticError unless the kernel's averages keep to `error` at some sample cosines."""
        cosines = np.linspace(-1, 1, 83)[1:-1]
        together = kernel.rhs_at_beta(1.0, np.stack([cosines, cosines, np.ones_like(cosines)], 1))[:, :2]
        other = np.sqrt(1 - cosines**2)
        apart = kernel.rhs_at_beta(0.0, np.stack([np.zeros_like(other), other, cosines], 1))[:, 0]
        (low, high), (weak, strong) = self.attraction(cosines), self.repulsion(cosines)
        for pull, rate in zip(self.pulls, together.T, strict=True):
            _require_between(rate / (pull * (1 - cosines**2)), low, high, self.error, "attraction")
        _require_between(-apart / other, weak, strong, self.repulsion_error, "repulsion")


def _require_between(found: np.ndarray, low: np.ndarray, high: np.ndarray, error: float, what: str) -> None:
    excess = np.maximum(low - found, found - high).max()
    if not excess <= error:
        raise ArithmeticError(f"the kernel's {what} is off by {excess:.1e}, where its averages may be by {error:.1e}")


def _enclosed(function: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> Bounds:
    """Return bounds of E function(a + b z) for tanh or sech, with a and b of shape (n,)."""
    steepest = float(np.abs(b).max(initial=0.0))
    strip = WIDEST_STRIP if steepest == 0 else min(WIDEST_STRIP, math.pi / (4 * steepest))
    step = 2 * math.pi * strip / math.log1p(2 * math.sqrt(2) * math.exp(strip**2 / 2) / TRUNCATION)
    count = math.ceil(LAST_NODE / step)
    z = step * np.arange(-count, count + 1)
    weights = step * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    some = max(1, MOST_AT_ONCE // len(z))
    parts = [function(a[n : n + some, None] + b[n : n + some, None] * z) @ weights for n in range(0, len(a), some)]
    values = np.concatenate(parts)
    error = TRUNCATION + float(erfc(z[-1] / math.sqrt(2))) + (len(z) + ROUNDINGS) * float(np.finfo(float).eps)
    return values - error, values + error


def _sech(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return 2 * small / (1 + small**2)
