"""Adaptive rules for the user's own training loops: β rises by the values of log p* at samples of q.

The samples may come from any library. The rules themselves are those of the particle simulation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from derive.objects.short_repr import short_repr
from derive.problem.arguments import require_fields
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.particles.adaptive_schedules import Rule

HOT = 10.0
"""The default T0: about twice the barrier between two modes whose distance is six widths."""


class _RisingBeta(ABC):
    """β that rises from 1/T0 to 1 by a rule of the particle simulation, for one q whose samples all have one weight."""

    T0: float

    def _begin(self) -> None:
        require_fields(self)
        if not 1 <= self.T0 < math.inf:
            raise BadInput("T0", f"{self.T0:g} is no temperature to begin at", "give a number of at least 1", "")
        self._beta = 1 / float(self.T0)

    @property
    def beta(self) -> float:
        """The β of the next step, a float."""
        return self._beta

    def update(self, log_p: Any) -> float:
        """Raise β by the rule.

        Parameters
        ----------
        log_p : array_like
            log p* (not tempered) at two or more samples of the present q, in any shape: a list, or an array of NumPy,
            JAX or torch (detached). A constant missing from all values does not matter.

        Returns
        -------
        float
            The new β, at most 1.

        Raises
        ------
        BadInput
            For anything but two or more finite real numbers. β then stays as it was.
        """
        values = _as_row(log_p)
        self._beta = float(self._rule().next_betas(np.array([self._beta]), values[None, None], np.ones((1, 1)))[0])
        return self._beta

    @abstractmethod
    def _rule(self) -> Rule:
        """The rule of the particle simulation, with the present β as its start."""


@dataclass(eq=False)
class AdaAnn(_RisingBeta):
    """The rule AdaAnn: β grows by τ/√Var_q[log p*] at each update, up to 1.

    Attributes
    ----------
    tau : float
        τ, positive. An update moves the tempered target by a Kullback-Leibler divergence of about τ²/2.
    T0 : float
        The start temperature, at least 1, on the scale of the barrier between the modes (see `find_barrier`). To go on
        from a known β, give 1/β.

    Raises
    ------
    BadInput
        For another tau or T0.

    References
    ----------
    Cobian, Hauenstein, Liu and Schiavazzi, "AdaAnn: adaptive annealing scheduler for probability density
    approximation".

    Examples
    --------
    >>> from annealvi import AdaAnn
    >>> rule = AdaAnn(tau=0.1, T0=10.0)
    >>> rule.update([-2.0, -4.0, -3.0])
    0.2
    """

    tau: float
    T0: float = HOT

    SHOWN = ("tau", "beta")
    __repr__ = short_repr

    def __post_init__(self) -> None:
        self._begin()
        if not 0 < self.tau < math.inf:
            raise BadInput("tau", f"{self.tau:g} is no step to take", "give a positive number", "")

    def _rule(self) -> Rule:
        from kernels.particles.adaptive_schedules import AdaAnn as RuleOfParticles

        return RuleOfParticles(float(self.tau), every=1, start_beta=self._beta, particles=2)


@dataclass(eq=False)
class EffectiveSampleSize(_RisingBeta):
    """The rule of the effective sample size: β grows as far as the importance weights of the samples stay even.

    Each update raises β to the largest β' <= 1 for which the weights u = p*^(β' − β) of the n samples keep the relative
    effective sample size (Σu)²/(n Σu²) at or above `level`.

    Attributes
    ----------
    level : float
        The relative effective sample size that the weights keep, above 0 and below 1.
    T0 : float
        The start temperature, at least 1, as for `AdaAnn`.

    Raises
    ------
    BadInput
        For another level or T0.

    Examples
    --------
    >>> from annealvi import EffectiveSampleSize
    >>> rule = EffectiveSampleSize(level=0.9, T0=10.0)
    >>> round(rule.update([-2.0, -4.0, -3.0]), 3)
    0.517
    """

    level: float
    T0: float = HOT

    SHOWN = ("level", "beta")
    __repr__ = short_repr

    def __post_init__(self) -> None:
        self._begin()
        if not 0 < self.level < 1:
            raise BadInput(
                "level", f"{self.level:g} is no share of the samples", "give a number above 0 and below 1", ""
            )

    def _rule(self) -> Rule:
        from kernels.particles.adaptive_schedules import EffectiveSampleSize as RuleOfParticles

        return RuleOfParticles(float(self.level), every=1, start_beta=self._beta, particles=2)


def _as_row(log_p: Any) -> np.ndarray:
    """The values as an array of shape (n,) in double precision, or `BadInput`."""
    try:
        values = np.asarray(log_p)
        reason = f"its kind is {values.dtype}"
    except (TypeError, ValueError, RuntimeError) as error:
        values, reason = np.empty(0, object), str(error).split(". ")[0].splitlines()[0]
    if values.dtype.kind not in "iuf":
        remedy = "give a list or an array, a torch tensor detached, a JAX array outside jit"
        raise BadInput("log_p", f"a {type(log_p).__name__} is no array of real numbers ({reason})", remedy, "")
    if values.size < 2:
        raise BadInput(
            "log_p",
            f"{values.size} values say nothing of how log p* varies",
            "give log p* at two samples of q or more",
            "",
        )
    if not np.isfinite(values).all():
        wrong = f"{(~np.isfinite(values)).sum()} of {values.size} values are not finite"
        raise BadInput("log_p", wrong, "leave out samples where p* is zero, and look at log p* where it is nan", "")
    return values.ravel().astype(float)
