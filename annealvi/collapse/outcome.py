"""What a run ended with: which modes of the target are the nearest to some component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from annealvi.session import Session

CONFIDENCE = 0.95
LEAST_WEIGHT = 1e-3
"""A component whose learned weight has fallen below this covers no mode: the second way to collapse."""


@dataclass(frozen=True)
class Outcomes:
    """covered: (n, K), whether each mode is the nearest to a component of weight LEAST_WEIGHT or more, in n runs."""

    covered: np.ndarray

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
        covered = np.bincount(self.covered.sum(axis=1), minlength=modes + 1) / n
        sets, counts = np.unique(~self.covered, axis=0, return_counts=True)
        missed = {",".join(str(k + 1) for k in np.flatnonzero(row)): float(count / n) for row, count in zip(sets, counts, strict=True)}
        return {
            "p": self.p,
            "stderr": self.stderr,
            "runs": n,
            "modes_covered": {str(k): float(share) for k, share in enumerate(covered) if k > 0},
            "modes_missed": {key: missed[key] for key in sorted(missed, key=lambda key: -missed[key]) if key},
        }


def outcomes_of_states(session: Session, states: np.ndarray) -> Outcomes:
    """The outcomes of final states (n, states). Modes are as near as their means are, whatever their scales."""
    count = len(session.problem.target.means)
    gram = _gram_of_all(session, states)
    to_modes = gram[:, count:, :count]
    distances = np.einsum("nii->ni", gram)[:, None, :count] - 2 * to_modes  # |a|² is the same for all modes
    nearest = distances.argmin(axis=2)
    counts = np.ones(nearest.shape, bool)
    names = session.state_names
    weights = [names.index(name) for name in names if name.startswith("w_")]
    if weights:
        counts = states[:, weights] >= LEAST_WEIGHT
    covered = np.stack([((nearest == k) & counts).any(axis=1) for k in range(count)], axis=1)
    return Outcomes(covered)


def _gram_of_all(session: Session, states: np.ndarray) -> np.ndarray:
    """The Gram matrices (n, K + L, K + L) of modes and means. They are affine in the states, so a few of them give all."""
    width = states.shape[1]
    constant = session.gram_of_states(np.zeros(width))
    slopes = np.stack([session.gram_of_states(row) - constant for row in np.eye(width)])
    return constant + np.tensordot(states, slopes, axes=1)
