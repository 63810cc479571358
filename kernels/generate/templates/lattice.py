"""How fine a trapezoidal lattice must be: plain functions that every generated module copies and that the measurement
of errors calls.

Along one variable the sum of exponentials Σ e^{ℓ_l} cannot vanish while all its phases lie within a half plane. With S
the largest difference of two logits' slopes there, that holds up to the imaginary distance δ = π/S, and the shares are
analytic so far. The rule with step h then errs by about e^{−2πδ/h + δ²/2} for N(0, 1), see `quadrature`, whatever the
other variables are. For an error of e^{−nats} this asks for 1/h = q + g²/(4q) nodes per unit length, with q = nats
S/(2π²) and g = √(2 nats)/(2π); or for g alone, the Gaussian weight's own limit, where q < g/2.

The χ² variable of ν degrees of freedom is written c = ν e^t with t = τ − e^{−τ}/ν. Its density in τ decays doubly
exponentially on both sides for every ν ≥ 1, where in log c the left tail has length 2 nats/ν.
"""

import math
from typing import Any


def device(function: Any) -> Any:
    return function


# The copied text begins below this line.
@device
def normal_density(linear, quadratic, nats):
    """Nodes per unit length for one normal variable. linear, quadratic: S ≤ linear + quadratic |z| at every z.

    A zero at distance δ above z weighs e^{−z²/2}, so that S(z) (nats − z²/2) at its largest takes the place of nats S.
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
def chi_density(slope, own, steepest):
    """Nodes per unit of τ. slope: largest difference of two logits' slopes in c. own, steepest: see
    `lattice_rule.ChiLaw`."""
    q = slope * steepest
    return own if q <= 0.5 * own else q + 0.5 * own


@device
def chi_log_ratio(tau, degrees):
    """t = log(c/ν)."""
    return tau - math.exp(-tau) / degrees


@device
def chi_log_weight(tau, degrees, normaliser):
    """The logarithm of the density in τ."""
    t = tau - math.exp(-tau) / degrees
    return 0.5 * degrees * (t - math.expm1(t)) + math.log1p(math.exp(-tau) / degrees) + normaliser
