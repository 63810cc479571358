"""The outcome of a run: which modes of the target are nearest to some component, and hold enough weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy.stats import binomtest

from annealvi.session.session import Session
from annealvi.session.span_coordinates import SpanCoordinates
from derive.objects.parameters import WEIGHTS
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

CONFIDENCE = 0.95
"""Confidence of the interval for P(collapse)."""
LEAST_WEIGHT = 0.1
"""With learned weights, the share of a mode's own weight that the components nearest to the mode must hold. The RealNVP
flows use the same share.

A small weight w changes at a rate of order w²: one factor w comes from the softmax and one from the component's own
share of the objective. A weight below 0.1 w*_k therefore needs a time of some 1/w > 10/w*_k to come back. For w*_k <=
0.2 this is longer than the 50 units of time in which a run may settle.
"""


@dataclass(frozen=True)
class Outcomes:
    """Which modes each of n runs covered.

    Attributes
    ----------
    covered : ndarray
        Shape (n, K), boolean. Whether each mode is the nearest one to some component. Where weights are learned, the
        components nearest to the mode must also hold enough weight.
    approached : ndarray or None
        Shape (n, K), boolean. Whether each mode is the nearest one to some component, whatever the components hold;
        None where weights are not learned.
    """

    covered: np.ndarray
    approached: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Join the outcomes of several parts into one."""
        approached = [part.approached for part in parts if part.approached is not None]
        return cls(np.concatenate([part.covered for part in parts]), np.concatenate(approached) if approached else None)

    SHOWN: ClassVar = ("p", "stderr")
    __repr__ = short_repr

    @property
    def p(self) -> float:
        """The share of runs that collapsed, which means that they missed some mode."""
        return float(self.collapsed.mean())

    @property
    def stderr(self) -> float:
        """The standard error of p.

        It is computed with one success and one failure more than were seen, so that it is not zero where p is 0 or 1.
        """
        n = len(self.covered)
        smoothed = (self.collapsed.sum() + 1) / (n + 2)
        return float(np.sqrt(smoothed * (1 - smoothed) / (n + 2)))

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's interval for p.

        It contains p in at least CONFIDENCE of experiments, for any number of runs.
        """
        found = binomtest(int(self.collapsed.sum()), len(self.covered)).proportion_ci(CONFIDENCE)
        return float(found.low), float(found.high)

    def upper_bound(self, confidence: float) -> float:
        """Return Clopper and Pearson's one-sided bound, which p exceeds in at most 1 − confidence of experiments."""
        found = binomtest(int(self.collapsed.sum()), len(self.covered), alternative="less").proportion_ci(confidence)
        return float(found.high)

    @property
    def collapsed(self) -> np.ndarray:
        """Whether each run missed some mode, shape (n,)."""
        return np.logical_not(self.covered.all(axis=1))

    @property
    def mechanisms(self) -> dict[str, float] | None:
        """The share of runs by the mechanism of their collapse; None where weights are not learned.

        "means_align": some mode is the nearest one to no component. "weight_vanishes": the components nearest to some
        mode hold too little. "both": each of these holds of some mode. The three shares add up to p.
        """
        if self.approached is None:
            return None
        align, vanish = ~self.approached.all(axis=1), (self.approached & ~self.covered).any(axis=1)
        kinds = {"means_align": align & ~vanish, "weight_vanishes": vanish & ~align, "both": align & vanish}
        return {name: float(runs.mean()) for name, runs in kinds.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form.

        It has p and stderr, the share of runs that covered 1, 2, … modes, the share of runs that missed each set of
        modes (numbered from 1), and the mechanisms where weights are learned.
        """
        n, modes = self.covered.shape
        missed, counts = self._missed_sets()
        covered = np.bincount(modes - missed.sum(axis=1), weights=counts, minlength=modes + 1) / n
        shares = {
            ",".join(str(k + 1) for k in np.flatnonzero(row)): float(count / n)
            for row, count in zip(missed, counts, strict=True)
        }
        return {
            "p": self.p,
            "stderr": self.stderr,
            "runs": n,
            "modes_covered": {str(k): float(share) for k, share in enumerate(covered) if k > 0},
            "modes_missed": {key: shares[key] for key in sorted(shares, key=lambda key: -shares[key]) if key},
            **({} if self.mechanisms is None else {"mechanisms": self.mechanisms}),
        }

    def _missed_sets(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the different sets of missed modes (sets, K), and the number of runs that missed each (sets,)."""
        modes = self.covered.shape[1]
        # NumPy sorts short words faster than rows, which it takes for records.
        bits = np.packbits(~self.covered, axis=1)
        words, counts = np.unique(bits.view(f"S{bits.shape[1]}"), return_counts=True)
        return np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1, count=modes).astype(bool), counts


@checked
def outcomes_of_states(session: Session, states: np.ndarray, least_weight: float | None = None) -> Outcomes:
    """Read the outcomes of final states.

    A mode's distance is that of its mean, whatever its scale. Where covariances are given or learned, the mode nearest
    to a component is the one under which the component's samples are likeliest, in the target's coordinates.

    Parameters
    ----------
    session : Session
        The problem that the states belong to.
    states : ndarray
        Shape (n, states), in the order of `session.state_names`.
    least_weight : float, optional
        With learned weights, the share of a mode's own weight below which the mode counts as missed, between 0 and 1;
        by default 0.1.

    Returns
    -------
    Outcomes
        Which modes each of the n states covers.

    Raises
    ------
    BadInput
        For a `least_weight` outside (0, 1) or without learned weights.

    Examples
    --------
    >>> import annealvi
    >>> import numpy as np
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))
    >>> outcomes = annealvi.outcomes_of_states(session, np.array([[0.9, -0.9, -0.7], [0.9, 0.9, 0.7]]))
    >>> outcomes.collapsed
    array([False,  True])
    """
    return judging(session, least_weight)(states)


def judging(session: Session, least_weight: float | None = None) -> Callable[[np.ndarray], Outcomes]:
    """Return the function from final states (n, states) to their outcomes, for states that come in parts.

    least_weight is the share of a mode's own weight that the components nearest to it must hold, LEAST_WEIGHT by
    default. Raises BadInput for a share outside (0, 1), and for any share where weights are not learned.
    """
    learned = session.positions_of(WEIGHTS)
    if least_weight is not None and not learned:
        raise BadInput(
            "--least-weight", "the proposal's weights are not learned", "leave it out, or add weights to flow.learn", ""
        )
    share = LEAST_WEIGHT if least_weight is None else least_weight
    if not 0 < share < 1:
        raise BadInput(
            "--least-weight", f"{share:g} is no share of a mode's weight", "give a number above 0 and below 1", ""
        )
    distances_of = _distances_to_modes(session)
    wanted = share * np.array(session.problem.target.weights)

    def judge(states: np.ndarray) -> Outcomes:
        approached, held = np.zeros((len(states), len(wanted)), bool), np.zeros((len(states), len(wanted)))
        for component, distances in enumerate(distances_of(states)):
            nearest = distances.argmin(axis=1)[:, None] == np.arange(len(wanted))
            approached |= nearest
            if learned:
                held += nearest * states[:, learned[component], None]
        return Outcomes(approached & (held >= wanted), approached) if learned else Outcomes(approached)

    return judge


def nearest_modes(session: Session, states: np.ndarray) -> np.ndarray:
    """Return the mode nearest to each component, counted from 0, shape (n, L), at states (n, states)."""
    return np.stack([distances.argmin(axis=1) for distances in _distances_to_modes(session)(states)], axis=1)


Distances = Callable[[np.ndarray], Iterator[np.ndarray]]
"""From states (n, states) to one array (n, K) per component, which orders the modes by their distance from it."""


def _distances_to_modes(session: Session) -> Distances:
    if session.problem.has_covariances:
        return partial(_distances_in_span, session)
    return _distances_of_means(session)


def _distances_of_means(session: Session) -> Distances:
    """Return the function to |ν_k|² − 2 a_l·ν_k, which orders the modes by their distance from component l.

    This quantity is affine in the states, as the Gram matrix is, so its values at 0 and at the unit states give all
    others.
    """
    count, width = len(session.problem.target.weights), len(session.state_names)

    def at(state: np.ndarray) -> np.ndarray:
        gram = session.gram_of_states(state)
        return np.diagonal(gram)[:count] - 2 * gram[count:, :count]

    constant = at(np.zeros(width))
    slopes = np.stack([at(row) - constant for row in np.eye(width)])

    def distances(states: np.ndarray) -> Iterator[np.ndarray]:
        for component in range(len(constant)):
            found = np.tile(constant[component], (len(states), 1))
            # Add the states in their order: in a product of matrices, the rounding of a row depends on the number of
            # rows and of threads.
            for column, slope in zip(states.T, slopes[:, component], strict=True):
                found += column[:, None] * slope
            yield found

    return distances


def _distances_in_span(session: Session, states: np.ndarray) -> Iterator[np.ndarray]:
    """Yield −2 E_l[log N(x; ν_k, Σ*_k)] in the span, up to a constant: tr(Λ_k Σ_l) + |X_l − ν_k|²_Λ + log det Σ*_k.

    The nearest mode is the one under which a component's samples are likeliest. For modes of one covariance the order
    is that of the distances of the means.
    """
    coordinates = session.coordinates
    assert isinstance(coordinates, SpanCoordinates)
    places, shapes = coordinates.coordinates_of_states(states), coordinates.covariances_of_states(states)
    modes, matrices = np.array(session.problem.modes), np.array(session.problem.mode_covariances)
    precisions, volumes = np.linalg.inv(matrices), np.linalg.slogdet(matrices)[1]
    pairs = list(np.ndindex(coordinates.size, coordinates.size))
    for component in range(places.shape[1]):
        away = places[:, component, None] - modes  # (n, K, r)
        # Add term by term, as for the means.
        yield sum(
            (precisions[:, n, m] * (shapes[:, component, n, m, None] + away[..., n] * away[..., m]) for n, m in pairs),
            start=np.tile(volumes, (len(states), 1)),
        )
