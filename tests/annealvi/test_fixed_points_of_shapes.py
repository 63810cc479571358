"""Fixed points where weights and scales are learned or the means leave their spheres.

The tests compare with the gradient of the KL on a grid, which knows the densities alone, with trajectories of the
flow, and with targets whose fixed points are known in closed form.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.fixed_points import FixedPoint, bifurcation_table, fixed_point_table
from annealvi.fixed_points.mean_flow import open_mean_flow
from annealvi.fixed_points.search import index_sum
from kernels.particles.kl_grid import Mixture, kl_gradient

BETA = 0.3
WEIGHTS, SCALES = 'flow.learn=["means","weights"]', 'flow.learn=["means","scales"]'
ALL = 'flow.learn=["means","weights","scales"]'
EUCLIDEAN = 'flow.manifold="euclidean"'
PLANE, NEAR = "space.dimension=2", ("target.means=[[1.5],[-1.5]]", "proposal.radius=1.5")
ACCURATE = 1e-6
"""The grid's gradient errs by 1e-11, and its central differences of step 1e-3 and fourth order by some 1e-8."""


def session_of(*changes: str):
    return annealvi.open_session(annealvi.load_problem("bimodal", list(changes)))


def means_in_plane(session, point: FixedPoint) -> np.ndarray:
    """The point's means, (L, 2), with the problem's modes on the first axis; a point knows its span up to the sign."""
    state = np.array(list(point.state.values()))[: session.overlap_count]
    padded = np.pad(point.means, ((0, 0), (0, 2 - point.means.shape[1])))
    choices = [padded * (sign, 1.0) for sign in (1, -1)]
    errors = [np.abs(session.states_of_vectors(c[None])[0, : len(state)] - state).max() for c in choices]
    assert min(errors) < 1e-12 * max(1.0, np.abs(state).max())
    return choices[int(np.argmin(errors))]


class OnGrid:
    """The flow near one point in the plane, in its own coordinates: arcs or means, then θ, then τ.

    Each coordinate has the unit metric. Coordinates of what is not learned are left out.
    """

    def __init__(self, session, point: FixedPoint):
        self.problem, self.beta = session.problem, point.beta
        self.sphere = self.problem.flow.manifold == "sphere"
        self.means = means_in_plane(session, point)
        self.weights, self.scales = (
            np.array([point.state.get(f"{letter}_{i}", given) for i, given in enumerate(values, 1)])
            for letter, values in (("w", self.problem.proposal.weights), ("sigma", self.problem.proposal.scales))
        )
        self.parts = ["means", *(name for name in ("weights", "scales") if name in self.problem.flow.learn)]
        self.sizes = [len(self.means) * (1 if self.sphere else 2)] + [len(self.means)] * (len(self.parts) - 1)

    def velocity(self, moves: np.ndarray) -> np.ndarray:
        by = dict(zip(self.parts, np.split(moves, np.cumsum(self.sizes)[:-1]), strict=True))
        logits = np.log(self.weights) + by.get("weights", 0.0)
        weights = np.exp(logits) / np.exp(logits).sum()
        if self.sphere:
            radii = np.linalg.norm(self.means, axis=1)
            angles = np.arctan2(self.means[:, 1], self.means[:, 0]) + by["means"] / radii
            means = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            tangents = np.stack([-np.sin(angles), np.cos(angles)], axis=1)
        else:
            means = self.means + by["means"].reshape(-1, 2)
        modes = np.zeros((len(self.problem.target.means), 2))
        modes[:, :1] = self.problem.target.means
        gradient = kl_gradient(
            Mixture(means, weights, self.scales * np.exp(by.get("scales", 0.0))),
            Mixture(modes, self.problem.target.weights, self.problem.target.scales),
            self.beta,
            1e-11,
        )
        found = {"weights": gradient.logits, "scales": gradient.log_scales}
        found["means"] = np.sum(gradient.means * tangents, axis=1) if self.sphere else gradient.means.ravel()
        return -np.concatenate([found[name] for name in self.parts])

    def spectrum(self) -> np.ndarray:
        """The eigenvalues of the linearised flow, decreasing, with that of the common shift of θ, which is zero."""
        h, size = 1e-3, sum(self.sizes)
        slopes = [
            (8 * (self.velocity(e) - self.velocity(-e)) - self.velocity(2 * e) + self.velocity(-2 * e)) / (12 * h)
            for e in h * np.eye(size)
        ]
        matrix = np.array(slopes)
        assert np.abs(matrix - matrix.T).max() < ACCURATE
        return np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1]


@pytest.mark.parametrize(
    ("changes", "count", "least"),
    [
        ((WEIGHTS,), 24, 6),
        ((EUCLIDEAN,), 24, 12),
        ((EUCLIDEAN, WEIGHTS, *NEAR), 24, 2),
        pytest.param((SCALES, *NEAR), 4, 3, marks=pytest.mark.slow),
        pytest.param((EUCLIDEAN, ALL, *NEAR), 4, 2, marks=pytest.mark.slow),
    ],
)
def test_points_are_zeros_and_spectra_those_of_the_kl_on_a_grid(changes, count, least):
    session = session_of(PLANE, *changes)
    points = annealvi.find_fixed_points(session, [BETA], count=count).points
    assert len(points) >= least
    for point in points:
        on_grid = OnGrid(session, point)
        assert np.abs(on_grid.velocity(np.zeros(sum(on_grid.sizes)))).max() < 1e-9
        shift = [0.0] if "weights" in on_grid.parts else []
        own = np.sort([*point.spectrum.within, *np.tile(point.spectrum.across, point.spectrum.copies), *shift])[::-1]
        assert own == pytest.approx(on_grid.spectrum(), abs=ACCURATE)
