"""How fine a trapezoidal lattice must be. Generated modules copy these functions, and `lattice_rule` calls them.

Along one variable the sum of exponentials Σ e^{ℓ_l} cannot vanish while the phases of all terms lie within a half
plane. Let S be the largest difference between the slopes of two logits. The phases stay within a half plane up to the
imaginary distance δ = π/S, and the softmax shares are analytic up to that distance. The trapezoidal rule with step h
then errs by about e^{−2πδ/h + δ²/2} for N(0, 1), see `kernels.averages.quadrature`, whatever the values of the other
variables. An error of e^{−nats} therefore takes 1/h = q + g²/(4q) nodes per unit length, with q = nats S/(2π²) and g =
√(2 nats)/(2π). Where q < g/2, g nodes suffice: g is the limit that the Gaussian weight itself sets.

The χ² variable with ν degrees of freedom is written c = ν e^t with t = τ − e^{−τ}/ν. Its density in τ decays doubly
exponentially on both sides for every ν ≥ 1, whereas the left tail of its density in log c has length 2 nats/ν.
"""

import math
from typing import Any


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def normal_density(linear: float, quadratic: float, nats: float) -> float:
    """Nodes per unit length for one normal variable. linear, quadratic: S ≤ linear + quadratic |z| at every z.

    A zero of the sum at distance δ above z has the weight e^{−z²/2}, so the largest value of S(z) (nats − z²/2)
    replaces nats S.
    """
    own = math.sqrt(2.0 * nats) / (2.0 * math.pi)
    steepest = linear
    budget = nats
    if quadratic > 0.0:
        z = 2.0 * quadratic * nats / (linear + math.sqrt(linear * linear + 6.0 * quadratic * quadratic * nats))
        steepest = linear + quadratic * z
        budget = nats - 0.5 * z * z
    q = steepest * budget / (2.0 * math.pi * math.pi)
    return own if q <= 0.5 * own else q + own * own / (4.0 * q)


@device
def chi_density(slope: float, own: float, steepest: float) -> float:
    """Nodes per unit of τ for the χ² variable.

    slope: the largest difference between the slopes of two logits in c. own, steepest: see `chi_law.ChiLaw`.
    """
    q = slope * steepest
    return own if q <= 0.5 * own else q + 0.5 * own


@device
def chi_log_ratio(tau: float, degrees: float) -> float:
    """t = log(c/ν) at τ."""
    return tau - math.exp(-tau) / degrees


@device
def chi_log_weight(tau: float, degrees: float, normaliser: float) -> float:
    """The logarithm of the density in τ."""
    t = tau - math.exp(-tau) / degrees
    return 0.5 * degrees * (t - math.expm1(t)) + math.log1p(math.exp(-tau) / degrees) + normaliser
