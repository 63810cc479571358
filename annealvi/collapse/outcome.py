"""What a run ended with: which modes of the target are the nearest to some component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import binomtest

from annealvi.session import Session
from derive.short_repr import short_repr

CONFIDENCE = 0.95
LEAST_WEIGHT = 1e-3
"""A component whose learned weight has fallen below this covers no mode: the second way to collapse."""


@dataclass(frozen=True)
class Outcomes:
    """covered: (n, K), whether each mode is the nearest to a component of weight LEAST_WEIGHT or more, in n runs."""

    covered: np.ndarray

    SHOWN: ClassVar = ("p", "stderr")
    __repr__ = short_repr

    @property
    def p(self) -> float:
        """The share of runs that collapsed, that is missed some mode."""
        return float(self.collapsed.mean())

    @property
    def stderr(self) -> float:
        """The standard error of p, from one success and one failure more than were seen, so that it is not zero where p is 0 or 1."""
        n = len(self.covered)
        smoothed = (self.collapsed.sum() + 1) / (n + 2)
        return float(np.sqrt(smoothed * (1 - smoothed) / (n + 2)))

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's interval for p, which holds it in CONFIDENCE of experiments or more, however few the runs are."""
        found = binomtest(int(self.collapsed.sum()), len(self.covered)).proportion_ci(CONFIDENCE)
        return float(found.low), float(found.high)

    @property
    def collapsed(self) -> np.ndarray:
        """(n,) whether some mode was missed."""
        return np.logical_not(self.covered.all(axis=1))

    def as_dict(self) -> dict[str, Any]:
        """p and stderr; the share of runs that covered 1, 2, … modes; the share that missed each set of modes, numbered from 1."""
        n, modes = self.covered.shape
        missed, counts = self._missed_sets()
        covered = np.bincount(modes - missed.sum(axis=1), weights=counts, minlength=modes + 1) / n
        shares = {",".join(str(k + 1) for k in np.flatnonzero(row)): float(count / n) for row, count in zip(missed, counts, strict=True)}
        return {
            "p": self.p,
            "stderr": self.stderr,
            "runs": n,
            "modes_covered": {str(k): float(share) for k, share in enumerate(covered) if k > 0},
            "modes_missed": {key: shares[key] for key in sorted(shares, key=lambda key: -shares[key]) if key},
        }

    def _missed_sets(self) -> tuple[np.ndarray, np.ndarray]:
        """The different sets of missed modes (sets, K), and how many runs missed each (sets,)."""
        modes = self.covered.shape[1]
        bits = np.packbits(~self.covered, axis=1)  # short words in place of rows, which NumPy would sort as records
        words, counts = np.unique(bits.view(f"S{bits.shape[1]}"), return_counts=True)
        return np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1, count=modes).astype(bool), counts


def outcomes_of_states(session: Session, states: np.ndarray) -> Outcomes:
    """The outcomes of final states (n, states). Modes are as near as their means are, whatever their scales."""
    return Outcomes(covering(session)(states))


def covering(session: Session) -> Callable[[np.ndarray], np.ndarray]:
    """The function from final states (n, states) to which modes each covers (n, K), for states that come in parts."""
    constant, slopes = _distances_to_modes(session)
    modes = constant.shape[1]
    weights = [i for i, name in enumerate(session.state_names) if name.startswith("w_")]

    def covered(states: np.ndarray) -> np.ndarray:
        found = np.zeros((len(states), modes), bool)
        for component in range(len(constant)):
            distances = np.tile(constant[component], (len(states), 1))
            # A sum over states in their order: a product of matrices rounds each row as the number of rows and of threads has it.
            for column, slope in zip(states.T, slopes[:, component], strict=True):
                distances += column[:, None] * slope
            counts = states[:, weights[component]] >= LEAST_WEIGHT if weights else np.ones(len(states), bool)
            found |= (distances.argmin(axis=1)[:, None] == np.arange(modes)) & counts[:, None]
        return found

    return covered


def nearest_modes(session: Session, states: np.ndarray) -> np.ndarray:
    """The mode, counted from 0, that each component's mean is nearest to, (n, L), at states (n, states)."""
    constant, slopes = _distances_to_modes(session)
    nearest = np.empty((len(states), len(constant)), int)
    for component, distances in enumerate(constant):
        terms = (column[:, None] * slope for column, slope in zip(states.T, slopes[:, component], strict=True))
        nearest[:, component] = sum(terms, start=distances).argmin(axis=1)
    return nearest


def _distances_to_modes(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """|ν_k|² − 2 a_l·ν_k, which orders the modes as their distances from component l do, at the states 0 (L, K), and its change with each
    state (states, L, K). It is affine in the states, as the Gram matrix is, so a few of them give all."""
    count = len(session.problem.target.weights)

    def distances(state: np.ndarray) -> np.ndarray:
        gram = session.gram_of_states(state)
        return np.diagonal(gram)[:count] - 2 * gram[count:, :count]

    width = len(session.state_names)
    constant = distances(np.zeros(width))
    return constant, np.stack([distances(row) - constant for row in np.eye(width)])
