"""What a run ended with: which modes of the target are the nearest to some component, and hold weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import binomtest

from annealvi.session.session import Session
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind
from derive.problem.arguments import checked
from derive.problem.specification import BadInput

CONFIDENCE = 0.95
LEAST_WEIGHT = 0.1
"""The share of a mode's own weight that the components nearest to it must hold where weights are learned, as of flows.

A small weight w changes at a rate of order w², once by the softmax and once by the component's own share of the
objective. So one below 0.1 w*_k needs some 1/w > 10/w*_k to come back, for w*_k <= 0.2 longer than the 50 units of time
that a run is given to settle.
"""


@dataclass(frozen=True)
class Outcomes:
    """covered: (n, K), whether each mode is the nearest to some component, in n runs, and where weights are learned to
    some with enough.

    approached: (n, K), whether it is the nearest to some, whatever they hold; None where weights are not learned.
    """

    covered: np.ndarray
    approached: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Those of all runs."""
        approached = [part.approached for part in parts if part.approached is not None]
        return cls(np.concatenate([part.covered for part in parts]), np.concatenate(approached) if approached else None)

    SHOWN: ClassVar = ("p", "stderr")
    __repr__ = short_repr

    @property
    def p(self) -> float:
        """The share of runs that collapsed, that is missed some mode."""
        return float(self.collapsed.mean())

    @property
    def stderr(self) -> float:
        """The standard error of p, from one success and one failure more than were seen, so that it is not zero where p
        is 0 or 1."""
        n = len(self.covered)
        smoothed = (self.collapsed.sum() + 1) / (n + 2)
        return float(np.sqrt(smoothed * (1 - smoothed) / (n + 2)))

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's interval for p, which holds it in CONFIDENCE of experiments or more, however few the
        runs are."""
        found = binomtest(int(self.collapsed.sum()), len(self.covered)).proportion_ci(CONFIDENCE)
        return float(found.low), float(found.high)

    def upper_bound(self, confidence: float) -> float:
        """Clopper and Pearson's one-sided bound: p is larger in 1 − confidence of experiments or fewer."""
        found = binomtest(int(self.collapsed.sum()), len(self.covered), alternative="less").proportion_ci(confidence)
        return float(found.high)

    @property
    def collapsed(self) -> np.ndarray:
        """(n,) whether some mode was missed."""
        return np.logical_not(self.covered.all(axis=1))

    @property
    def mechanisms(self) -> dict[str, float] | None:
        """The shares of runs that collapsed because "means_align", some mode is the nearest to no component, because
        "weight_vanishes", those nearest to some mode hold too little, and by "both", of two modes. They sum to p. None
        where weights are not learned."""
        if self.approached is None:
            return None
        align, vanish = ~self.approached.all(axis=1), (self.approached & ~self.covered).any(axis=1)
        kinds = {"means_align": align & ~vanish, "weight_vanishes": vanish & ~align, "both": align & vanish}
        return {name: float(runs.mean()) for name, runs in kinds.items()}

    def as_dict(self) -> dict[str, Any]:
        """p and stderr; the share of runs that covered 1, 2, … modes; the share that missed each set of modes, numbered
        from 1; the mechanisms where weights are learned."""
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
        """The different sets of missed modes (sets, K), and how many runs missed each (sets,)."""
        modes = self.covered.shape[1]
        bits = np.packbits(~self.covered, axis=1)  # short words in place of rows, which NumPy would sort as records
        words, counts = np.unique(bits.view(f"S{bits.shape[1]}"), return_counts=True)
        return np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1, count=modes).astype(bool), counts


@checked
def outcomes_of_states(session: Session, states: np.ndarray, least_weight: float | None = None) -> Outcomes:
    """The outcomes of final states (n, states). Modes are as near as their means, whatever their scales. least_weight:
    as of `judging`."""
    return judging(session, least_weight)(states)


def judging(session: Session, least_weight: float | None = None) -> Callable[[np.ndarray], Outcomes]:
    """The function from final states (n, states) to their outcomes, for states that come in parts.

    least_weight: the share of a mode's own weight that the components nearest to it must hold, LEAST_WEIGHT by default.
    Raises BadInput for one where weights are not learned, and for no share.
    """
    learned = session.positions_of(StateKind.WEIGHT)
    if least_weight is not None and not learned:
        raise BadInput(
            "--least-weight", "the proposal's weights are not learned", "leave it out, or add weights to flow.learn", ""
        )
    share = LEAST_WEIGHT if least_weight is None else least_weight
    if not 0 < share < 1:
        raise BadInput(
            "--least-weight", f"{share:g} is no share of a mode's weight", "give a number above 0 and below 1", ""
        )
    constant, slopes = _distances_to_modes(session)
    wanted = share * np.array(session.problem.target.weights)

    def judge(states: np.ndarray) -> Outcomes:
        approached, held = np.zeros((len(states), len(wanted)), bool), np.zeros((len(states), len(wanted)))
        for component in range(len(constant)):
            distances = np.tile(constant[component], (len(states), 1))
            # A sum over states in their order: a product of matrices rounds each row as the number of rows and of
            # threads has it.
            for column, slope in zip(states.T, slopes[:, component], strict=True):
                distances += column[:, None] * slope
            nearest = distances.argmin(axis=1)[:, None] == np.arange(len(wanted))
            approached |= nearest
            if learned:
                held += nearest * states[:, learned[component], None]
        return Outcomes(approached & (held >= wanted), approached) if learned else Outcomes(approached)

    return judge


def nearest_modes(session: Session, states: np.ndarray) -> np.ndarray:
    """The mode, counted from 0, that each component's mean is nearest to, (n, L), at states (n, states)."""
    constant, slopes = _distances_to_modes(session)
    nearest = np.empty((len(states), len(constant)), int)
    for component, distances in enumerate(constant):
        terms = (column[:, None] * slope for column, slope in zip(states.T, slopes[:, component], strict=True))
        nearest[:, component] = sum(terms, start=distances).argmin(axis=1)
    return nearest


def _distances_to_modes(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """|ν_k|² − 2 a_l·ν_k, which orders the modes as their distances from component l do, at the states 0 (L, K), and
    its change with each state (states, L, K). It is affine in the states, as the Gram matrix is, so a few of them give
    all."""
    count = len(session.problem.target.weights)

    def distances(state: np.ndarray) -> np.ndarray:
        gram = session.gram_of_states(state)
        return np.diagonal(gram)[:count] - 2 * gram[count:, :count]

    width = len(session.state_names)
    constant = distances(np.zeros(width))
    return constant, np.stack([distances(row) - constant for row in np.eye(width)])
