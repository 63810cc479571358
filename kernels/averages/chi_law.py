"""The χ² law in the variable in which kernels integrate it, with the numbers that a rule for it needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import sympy as sp

from kernels.averages.quadrature import CONSTANT


@dataclass(frozen=True)
class ChiLaw:
    """The χ² law in the variable τ of `kernels.generate.templates.lattice`.

    Attributes
    ----------
    degrees
        The degrees of freedom.
    normaliser
        The normalisation of the log density.
    lowest, highest
        Where the density, times c², falls to e^{−nats} of its peak.
    own_density
        The nodes per unit of τ that integrate 1, c and c² to the accuracy.
    steepest
        The nodes per unit of τ that a unit slope of the logits in c asks for; see `chi_density`.
    peak
        The largest log density.
    """

    degrees: float
    normaliser: float
    lowest: float
    highest: float
    own_density: float
    steepest: float
    peak: float


@cache
def chi_law(degrees: float, nats: float) -> ChiLaw:
    """The χ² law for an accuracy of e^{−nats}. Raises ValueError for fewer than one degree of freedom."""
    if not degrees >= 1:
        raise ValueError(f"a chi-squared variable needs at least one degree of freedom, not {degrees:g}")
    half = sp.Float(degrees, 30) / 2
    normaliser = float(half * sp.log(half) - half - sp.loggamma(half).evalf(30))
    law = ChiLaw(degrees, normaliser, -8.0, 8.0, 0.0, 0.0, 0.0)
    width = min(8.0, 20 * math.sqrt(nats / degrees))
    tau = np.linspace(-width, width, 100_001)
    c, log_weight = chi_nodes(law, tau)
    peak = float(log_weight.max())
    kept = tau[log_weight + 2 * np.maximum(tau, 0) > peak - nats]
    slopes = c * (1 + np.exp(-tau) / degrees) * (nats + log_weight - peak)
    law = replace(
        law, lowest=float(kept[0]), highest=float(kept[-1]), peak=peak, steepest=float(slopes.max()) / (2 * math.pi**2)
    )
    own = math.sqrt(nats * degrees) / (4 * math.pi)
    while _moment_error(law, own) > max(CONSTANT * math.exp(-nats), 1e-14):
        own *= 1.05
    return replace(law, own_density=own)


def chi_nodes(law: ChiLaw, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of c and of the log density at τ."""
    ratio = np.exp(-tau) / law.degrees
    t = tau - ratio
    return law.degrees * np.exp(t), law.degrees / 2 * (t - np.expm1(t)) + np.log1p(ratio) + law.normaliser


def _moment_error(law: ChiLaw, density: float) -> float:
    """The largest error of E[1], E[c/ν] and E[(c/ν)²] over shifts of the grid."""
    errors = [0.0]
    for shift in (0.0, 0.25, 0.5):
        tau = law.lowest + (np.arange(math.ceil((law.highest - law.lowest) * density) + 1) - shift) / density
        c, log_weight = chi_nodes(law, tau)
        weights, c = np.exp(log_weight) / density, c / law.degrees
        errors += [abs(weights.sum() - 1), abs(weights @ c - 1), abs(weights @ c**2 / (1 + 2 / law.degrees) - 1)]
    return max(errors)
