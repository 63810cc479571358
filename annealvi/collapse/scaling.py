"""How long a schedule must be: the scaling law of t0 with the wanted probability and the dimension.

The slower a schedule is, the closer the pair of components stays to the waiting state of the present temperature. To
leading order Λ = A t0 with A = ∫ λ dτ over the schedule's own time τ = t/t0. The integral runs from the schedule's
start until the pair is released: until λ has fallen to zero, at the pitchfork that makes the collapsed state an
attractor. With b_c = C e^{−Λ} and P = erf(b_c √d/2),

    t0 = (½ log d − log(2 erf⁻¹(p)/C)) / A.

So t0 grows with log d, by 1/(2A) for each factor e of the dimension, and with log 1/p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import erfinv

from annealvi.collapse.family import Family
from annealvi.collapse.growth import heavier_side, require_alike, waiting_states
from annealvi.collapse.separatrix import Accuracy
from annealvi.collapse.trapping import lasting_beta
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem

PRECISE = Accuracy(width=1e-4, rtol=1e-7)
LONGEST = 1e8
"""The largest t0 that `required_time_scale` tries."""


@dataclass(frozen=True)
class ScalingLaw:
    """The scaling law of t0 with probability and dimension.

    Attributes
    ----------
    rate : float
        A = dΛ/dt0 for slow schedules.
    prefactor : float
        C = b_c e^{A t0}.
    reference : float
        The t0 at which b_c was shot for C.
    release : float
        The temperature at which the pair is released.
    """

    rate: float
    prefactor: float
    reference: float
    release: float

    __repr__ = short_repr

    def time_scale(self, p: float | np.ndarray, dimension: float | np.ndarray) -> np.ndarray:
        """Compute the t0 for P(collapse) = p, to leading order in large d.

        Parameters
        ----------
        p : float or ndarray
            The wanted probability, between 0 and 1.
        dimension : float or ndarray
            The dimension d; it broadcasts with `p`.

        Returns
        -------
        ndarray
            t0 in units of the flow's time.

        Examples
        --------
        >>> from annealvi.collapse.scaling import ScalingLaw
        >>> law = ScalingLaw(rate=0.5, prefactor=1.0, reference=10.0, release=2.0)
        >>> float(round(law.time_scale(0.01, 1e4) - law.time_scale(0.01, 1e2), 6))  # log(100)/(2 rate)
        4.60517
        """
        return (np.log(np.asarray(dimension)) / 2 - np.log(2 * erfinv(np.asarray(p)) / self.prefactor)) / self.rate


@checked
def scaling_law(problem: Problem, reference: float | None = None, device: str = "auto") -> ScalingLaw:
    """Derive the scaling law for a problem's kind of schedule and T0.

    Parameters
    ----------
    problem : Problem
        Two alike components under two opposite modes of unequal weight, with a schedule that has T0 and t0.
    reference : float, optional
        The t0 at which b_c is shot for the prefactor C; by default the one with A t0 = 5.
    device : {"auto", "cpu", "cuda"}
        Where the kernels run.

    Returns
    -------
    ScalingLaw
        Rate, prefactor, reference and temperature of release.

    Raises
    ------
    BadInput
        For components that are not alike, for modes of equal weight (whose b_c is 0 to leading order), for a schedule
        without T0 and t0 or whose β may fall, and for a T0 below the temperature of release, from which no slow
        schedule helps.

    Examples
    --------
    >>> import annealvi
    >>> law = annealvi.scaling_law(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> law.time_scale(0.05, 128)  # doctest: +SKIP
    """
    family = Family.of(problem, device)
    session = family.base.session
    require_alike(session)
    if {s.name for s in session.schedule.parameters} != {"T0", "t0"}:
        raise BadInput(
            "schedule.kind",
            f"{problem.schedule.kind!r} has no T0 and t0",
            "choose a kind that has both, and give a finite T0",
        )
    if lasting_beta(session) < 1:
        found = (
            f"the law is for a β that depends on t/t0 and never falls, and that of {problem.schedule.kind!r} need not"
        )
        raise BadInput("schedule.kind", found, "choose a kind other than table and expression")
    if len(set(problem.target.weights)) == 1:
        raise BadInput("target.weights", "b_c is zero to leading order for equal modes", "give modes of unequal weight")
    kernel = family.base.kernel
    overlaps = heavier_side(kernel) * np.linspace(1e-4, 0.98, 4000)
    states = waiting_states(kernel, overlaps)
    # From hot to cold, m and β must grow together up to the release; past it this does not matter.
    last = int(np.argmax(states.growth < 0))
    beta, growth = states.beta[: last + 1], states.growth[: last + 1]
    if (np.diff(beta) <= 0).any():
        raise BadInput(
            "problem",
            "its waiting states have a fold before the pair is let go",
            "the law holds for a single branch only",
            "",
        )
    of_beta = PchipInterpolator(np.concatenate([[0.0], beta]), np.concatenate([[0.0], growth]))
    release = float(beta[-2] + (beta[-1] - beta[-2]) * growth[-2] / (growth[-2] - growth[-1]))
    if kernel.beta_at(0.0)[0] >= release:
        raise BadInput(
            "schedule.T0",
            f"{problem.schedule.T0:g} is below {1 / release:.4g}, where the pair is let go",
            "begin hotter",
        )
    rate = _integral(family, of_beta, release)
    t0 = 5 / rate if reference is None else reference
    member = family.at({"schedule.t0": t0})
    b_c = member.separatrix.leading(PRECISE).b_c[1]
    return ScalingLaw(rate, float(b_c * np.exp(rate * t0)), t0, 1 / release)


def _integral(family: Family, growth_of_beta: PchipInterpolator, release: float) -> float:
    """Compute ∫ λ(β(τ)) dτ until β has reached `release`, over the schedule with t0 = 1."""
    member = family.at({"schedule.t0": 1.0})
    until = member.separatrix.t_end
    ends = np.linspace(0, until, 2)
    for _ in range(60):  # bisect for the time when β passes the release, which may be at a jump
        middle = ends.mean()
        ends = (
            np.array([ends[0], middle]) if member.kernel.beta_at(middle)[0] >= release else np.array([middle, ends[1]])
        )
    edges = np.linspace(0, ends[1], 20_001)
    middles = (edges[1:] + edges[:-1]) / 2
    return float(np.sum(growth_of_beta(np.minimum(member.kernel.beta_at(middles), release))) * (edges[1] - edges[0]))


def required_time_scale(problem: Problem, p: float, law: ScalingLaw, device: str = "auto") -> float:
    """Find the t0 at which the corrected formula gives P = p in the problem's own dimension.

    The search is a bisection to 1e-3 around the law's value.
    """
    family = Family.of(problem, device)
    middle = float(law.time_scale(p, problem.space.dimension))

    def probability(t0: float) -> float:
        return family.at({"schedule.t0": t0}).separatrix.corrected(replace(Accuracy(), width=1 / 512)).p

    low, high = max(middle / 2, 1e-3), max(middle, 1e-3) * 1.5
    while probability(low) < p:
        low /= 2
    while probability(high) > p:
        high *= 2
        if high > LONGEST:
            raise BadInput("schedule.T0", f"no t0 up to {LONGEST:.0e} gives P = {p:g}", "begin hotter")
    while high > 1.001 * low:
        middle = np.sqrt(low * high)
        low, high = (middle, high) if probability(middle) > p else (low, middle)
    return float(np.sqrt(low * high))
