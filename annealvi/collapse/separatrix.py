"""The probability of collapse from the separatrix: the surface between initial overlaps that collapse and others.

In the coordinates (u_1, v, s) of `initial_law`, whose law is exact in every d, the initial overlaps that collapse lie
between two surfaces, v_−(u_1, s) < v < v_+(u_1, s). Shooting finds the surfaces at the nodes of a quadrature over u_1
and s; the integral over v is a difference of Beta distribution functions. To leading order in large d, only u_1 = 0 and
s = 0 count.

For alike components the surfaces are v = ±v_c, and the plane v = 0 is invariant. On this plane both components take the
same path: to one mode for u_1 below a switch, and to the other mode above it. At the switch v_c = 0, with a power law
on either side, so the nodes in u_1 gather there. For components that are not alike, the switch is where the collapsed
region between the two surfaces changes its mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import erf

from annealvi.collapse import initial_law
from annealvi.collapse.formula_coverage import LEAST_DIMENSION, UNCOVERED
from annealvi.collapse.trapping import beyond_steps, decided_sets
from annealvi.session.session import Session
from annealvi.show.remarks import tell
from derive.objects.short_repr import short_repr
from derive.problem.objective_scope import key_of_another_objective
from derive.problem.schedules import settling_time
from derive.problem.specification import BadInput
from kernels.integrate.errors import IntegrationError
from kernels.integrate.kernel import Kernel
from kernels.integrate.shooting import Shooting

BOTH_MINUS, FIRST_PLUS, SECOND_PLUS, BOTH_PLUS = 1, 2, 4, 8
"""Outcomes of `Kernel.shoot`."""

FARTHEST = np.sqrt(2) * (1 - 1e-12)
"""The largest b = m_1 − m_2 of vectors with m_1 + m_2 = s = 0."""

VANISHING = 1e-13
"""A boundary closer to b = 0 than this is rounding error and counts as zero: every b ≠ 0 separates, as at w* = ½."""

BEYOND = 1e-6
"""Probability of the initial states that lie farther out than every segment."""


def covers(session: Session) -> bool:
    """Return whether the formula covers the problem.

    It covers two components on the sphere under two opposite modes, a schedule β(t), and the tempered reverse KL.
    """
    plain = session.rule is None and key_of_another_objective(session.problem) is None
    return plain and session.state_names == ("m_1", "m_2", "s")


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of the separatrix formula.

    Attributes
    ----------
    overlap_nodes : int
        Nodes of the quadrature over s.
    sum_nodes : int
        Nodes of the quadrature over u_1, on each side of the switch.
    width : float
        Width of the brackets at which shooting stops, relative to v.
    rtol : float
        Relative tolerance of each integration step.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.Accuracy(rtol=1e-6).overlap_nodes
    3
    """

    overlap_nodes: int = 3
    sum_nodes: int = 8
    width: float = 1 / 128
    rtol: float = 1e-5


FINE = Accuracy(5, 20, 1 / 2048, 1e-7)
QUICK = Accuracy(2, 6, 1 / 64, 1e-3)
"""The accuracy of maps: P is within 0.003 of FINE. Outcomes hardly depend on rtol, because local errors leave alike
components alike.
"""


@dataclass(frozen=True)
class Guess:
    """Where the next shooting may begin.

    Attributes
    ----------
    surface : ndarray
        The surface found last, as places on the segments.
    switches : ndarray
        Shape (overlap_nodes,). The switches in units of the largest u_1.
    """

    surface: np.ndarray
    switches: np.ndarray


@dataclass(frozen=True)
class Corrected:
    """The probability of collapse with the exact initial law.

    Attributes
    ----------
    p : float
        The probability.
    guess : Guess
        A start for a similar problem.
    runs : int
        Number of trajectories shot.
    """

    p: float
    guess: Guess
    runs: int


@dataclass(frozen=True)
class Leading:
    """The probability of collapse to leading order in large d.

    Attributes
    ----------
    p : float
        The probability.
    b_c : tuple of float
        (b_−, b_+): runs that start at m_1 + m_2 = s = 0 collapse when b = m_1 − m_2 lies between the two.
    runs : int
        Number of trajectories shot.
    """

    p: float
    b_c: tuple[float, float]
    runs: int


@dataclass(frozen=True)
class Separatrix:
    """The shooting for one problem.

    Attributes
    ----------
    kernel : Kernel
        The kernel compiled for the problem.
    traps : ndarray
        Sets that decide a trajectory, from `decided_sets`.
    t_end : float
        Time when a run is over.
    dimension : int
        The dimension d.
    symmetric : bool
        Whether the two components are alike.
    """

    kernel: Kernel
    traps: np.ndarray
    t_end: float
    dimension: int
    symmetric: bool

    __repr__ = short_repr

    @classmethod
    def of(cls, session: Session, kernel: Kernel) -> Separatrix:
        """Prepare the shooting.

        Raises BadInput for a problem without the states m_1, m_2 and s, for d < 3, and for a schedule that never
        reaches T = 1.
        """
        if not covers(session):
            raise BadInput("problem", UNCOVERED, "use `collapse --method ode` for others", "")
        dimension = session.problem.space.dimension
        if dimension < LEAST_DIMENSION:
            raise BadInput(
                "space.dimension",
                f"the formula needs d >= {LEAST_DIMENSION}, not {dimension}",
                "use `collapse --method ode`, or more dimensions",
            )
        settling_time(session.schedule)
        proposal = session.problem.proposal
        symmetric = all(len(set(values)) == 1 for values in (proposal.weights, proposal.scales, proposal.radii))
        return cls(kernel, decided_sets(session, kernel), session.end_time(), dimension, symmetric)

    def leading(self, accuracy: Accuracy = Accuracy(), guess: float | None = None) -> Leading:
        """Compute b_c by shooting from m_1 + m_2 = 0 and s = 0, and p ≃ erf(b_c √d/2).

        For w_1 ≠ w_2, p is the mean of the erf on both sides. guess is the b_c of a similar problem.
        """
        middle, end = np.zeros((1, 3)), np.array([[FARTHEST / 2, -FARTHEST / 2, 0.0]])
        if self.symmetric:
            bracket = [0.01, 0.1] if guess is None else [guess / FARTHEST * 0.97, min(1.0, guess / FARTHEST * 1.03)]
            found = self._shoot(middle, end, BOTH_MINUS + BOTH_PLUS, accuracy.width / 4, np.array([bracket]), accuracy)
            place = float(found.bracket.mean())
            b = FARTHEST * place if place > VANISHING else 0.0
            return Leading(float(erf(b * np.sqrt(self.dimension) / 2)), (-b, b), found.runs)
        below, above, runs = self._sides(-end, end, accuracy)
        b = (FARTHEST * (2 * float(below[0]) - 1), FARTHEST * (2 * max(float(below[0]), float(above[0])) - 1))
        p = (erf(b[1] * np.sqrt(self.dimension) / 2) - erf(b[0] * np.sqrt(self.dimension) / 2)) / 2
        return Leading(float(p), b, runs)

    def corrected(self, accuracy: Accuracy = Accuracy(), guess: Guess | None = None) -> Corrected:
        """Compute p with the exact law of the initial sum and overlap.

        guess comes from a similar problem with the same accuracy and dimension.
        """
        s, s_weights = initial_law.overlap_nodes(accuracy.overlap_nodes, self.dimension)
        switches, runs = self._switches(s, accuracy, guess)
        x, weights = np.polynomial.legendre.leggauss(accuracy.sum_nodes)
        x, weights = (x + 1) / 2, weights / 2
        # q is the distribution function of u_1 at the switch; squaring x gathers the nodes there.
        q = initial_law.sum_distribution(switches, self.dimension)[:, None]
        places = np.concatenate([q - q * x**2, q + (1 - q) * x**2], axis=1)
        shares = np.concatenate([q * 2 * x * weights, (1 - q) * 2 * x * weights], axis=1) * s_weights[:, None]
        u_1 = initial_law.sum_quantile(places.ravel(), self.dimension)
        overlaps = np.repeat(s, places.shape[1])
        v, more, surface = self._surfaces(u_1, overlaps, accuracy, None if guess is None else guess.surface)
        distribution = initial_law.difference_distribution(v, self.dimension)
        # Where no state collapses the two surfaces meet, and may cross within a bracket's width.
        inside = np.maximum(distribution[:, 1] - distribution[:, 0], 0)
        return Corrected(float(shares.ravel() @ inside), Guess(surface, switches / self._reach), runs + more)

    @cached_property
    def _reach(self) -> float:
        """The largest u_1 of the shooting."""
        return float(initial_law.sum_quantile(np.array([1 - BEYOND]), self.dimension)[0])

    @cached_property
    def _widest(self) -> float:
        """The largest |v| of the shooting."""
        return initial_law.widest_difference(self.dimension, BEYOND)

    def _switches(self, s: np.ndarray, accuracy: Accuracy, guess: Guess | None) -> tuple[np.ndarray, int]:
        """Return the u_1 where the collapsed region changes its mode, at each s, and the number of trajectories.

        Where it does not change its mode, the switch is at the end of the range.
        """
        n = len(s)
        far, none = np.full(n, self._reach), np.zeros(n)
        if self.symmetric:
            low, high = initial_law.states(-far, none, s), initial_law.states(far, none, s)
            bracket = np.tile([0.3, 0.6], (n, 1))
            if guess is not None:
                place = (1 + guess.switches) / 2
                bracket = np.clip(np.stack([place - 0.004, place + 0.004], 1), 0, 1)
            found = self._shoot(low, high, BOTH_MINUS, 1e-3, bracket, accuracy)
            return (2 * found.bracket.mean(axis=1) - 1) * self._reach, found.runs
        left, right, runs = -far, far.copy(), 0
        for _ in range(10):
            u_1 = (left + right) / 2
            v, more, _ = self._surfaces(u_1, s, accuracy, None)
            middle = initial_law.states(u_1, v.mean(axis=1), s)
            traps = beyond_steps(self.traps, accuracy.rtol)
            run = self.kernel.integrate(
                middle, [0.0, self.t_end], rtol=accuracy.rtol, atol=accuracy.rtol / 100, traps=traps
            )
            up = run.y[:, -1, 0] > 0
            left, right, runs = np.where(up, left, u_1), np.where(up, u_1, right), runs + more + n
        return (left + right) / 2, runs

    def _surfaces(
        self, u_1: np.ndarray, s: np.ndarray, accuracy: Accuracy, last: np.ndarray | None
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """Return (v_−, v_+) at the nodes, the number of trajectories, and the places on the segments.

        The surfaces have shape (n, 2). The places serve as the next guess.
        """
        none, far = np.zeros_like(u_1), np.full_like(u_1, self._widest)
        if self.symmetric:
            low, high = initial_law.states(u_1, none, s), initial_law.states(u_1, far, s)
            bracket = (
                np.tile([0.05, 0.3], (len(u_1), 1))
                if last is None
                else np.stack([last * 0.94, np.minimum(last * 1.06, 1.0)], 1)
            )
            found = self._shoot(low, high, BOTH_MINUS + BOTH_PLUS, accuracy.width, bracket, accuracy)
            place = found.bracket.mean(axis=1)
            v = place * self._widest
            return np.stack([-v, v], axis=1), found.runs, place
        below, above, runs = self._sides(initial_law.states(u_1, -far, s), initial_law.states(u_1, far, s), accuracy)
        return self._widest * (2 * np.stack([below, above], 1) - 1), runs, below

    def _sides(self, low: np.ndarray, high: np.ndarray, accuracy: Accuracy) -> tuple[np.ndarray, np.ndarray, int]:
        """Return where collapse begins on each segment, from its low end, and where it ends.

        This serves components that are not alike.
        """
        bracket = np.tile([0.4, 0.5], (len(low), 1))
        below = self._shoot(low, high, SECOND_PLUS, accuracy.width / 16, bracket, accuracy)
        above = self._shoot(high, low, FIRST_PLUS, accuracy.width / 16, bracket, accuracy)
        return below.bracket.mean(axis=1), 1 - above.bracket.mean(axis=1), below.runs + above.runs

    def _shoot(
        self, low: np.ndarray, high: np.ndarray, inside: int, width: float, bracket: np.ndarray, accuracy: Accuracy
    ) -> Shooting:
        """Bisect each segment for the end of the stretch that begins at `low` and has outcomes among `inside`."""
        n = len(low)
        widths, insides = np.full(n, width), np.full(n, inside)

        def shoot(rtol: float) -> Shooting:
            traps = beyond_steps(self.traps, rtol)
            return self.kernel.shoot(
                low, high, insides, self.t_end, width=widths, bracket=bracket, traps=traps, rtol=rtol, atol=rtol / 100
            )

        try:
            return shoot(accuracy.rtol)
        except IntegrationError as error:
            # With a wide tolerance a trajectory that rests at a saddle may jump out of the domain, about once in 10^5
            # shootings.
            if accuracy.rtol <= FINE.rtol:
                raise
            tell(
                f"at d = {self.dimension} the separatrix is shot for again with rtol = {FINE.rtol:g}: "
                f"with {accuracy.rtol:g} {error}"
            )
            return shoot(FINE.rtol)

    def with_kernel(self, kernel: Kernel, t_end: float) -> Separatrix:
        """Return the shooting under another schedule of the same kind.

        `kernel` is that schedule's kernel, and `t_end` the time when its runs are over.
        """
        return replace(self, kernel=kernel, t_end=t_end)
