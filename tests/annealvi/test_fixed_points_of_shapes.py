"""Fixed points where weights and scales are learned or the means leave their spheres.

The tests compare with the gradient of the KL on a grid, which knows the densities alone, with trajectories of the
flow, and with targets whose fixed points are known in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.fixed_points import FixedPoint, bifurcation_table, fixed_point_table
from annealvi.fixed_points.completeness import frames_characteristic
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

    def __init__(self, session, means: np.ndarray, state: Mapping[str, float], beta: float):
        self.problem, self.means, self.beta = session.problem, means, beta
        self.sphere = self.problem.flow.manifold == "sphere"
        self.weights, self.scales = (
            np.array([state.get(f"{letter}_{i}", given) for i, given in enumerate(values, 1)])
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
        on_grid = OnGrid(session, means_in_plane(session, point), point.state, BETA)
        assert np.abs(on_grid.velocity(np.zeros(sum(on_grid.sizes)))).max() < 1e-9
        shift = [0.0] if "weights" in on_grid.parts else []
        own = np.sort([*point.spectrum.within, *np.tile(point.spectrum.across, point.spectrum.copies), *shift])[::-1]
        assert own == pytest.approx(on_grid.spectrum(), abs=ACCURATE)


@pytest.mark.parametrize(
    ("changes", "temperature", "t_end", "count"),
    [
        ((WEIGHTS,), 1 / BETA, 1000, 12),
        ((EUCLIDEAN,), 1 / BETA, 1500, 12),
        pytest.param((SCALES, "space.dimension=3"), 2, 600, 6, marks=pytest.mark.slow),
    ],
)
def test_trajectories_end_at_points_that_are_said_to_attract(changes, temperature, t_end, count):
    session = session_of(*changes, "schedule.kind=constant", f"schedule.T0={temperature}")
    found = annealvi.find_fixed_points(session, [1 / temperature], count=count)
    stable = np.array([list(p.state.values()) for p in found.points if p.stable])
    ends = annealvi.integrate(session, session.random_states(12, seed=1), t_end=t_end, points=2).values[:, -1]
    assert np.abs(ends[:, None] - stable).max(axis=2).min(axis=1).max() < 1e-6


def test_one_gaussian_takes_the_place_of_another_and_its_tempered_scale():
    """𝓛 = −dτ + β (d e^{2τ} + ‖a − ν‖²)/(2σ*²), up to a constant, has one zero: a = ν and σ = σ*/√β."""
    one = ("target.weights=[1.0]", "target.means=[[2.0]]", "target.scales=[1.5]", "proposal.weights=[1.0]")
    session = session_of(*one, "proposal.scales=[1.0]", "space.dimension=5", EUCLIDEAN, SCALES)
    found = annealvi.find_fixed_points(session, [0.25], count=8)
    (point,) = found.points
    assert point.state == pytest.approx({"M_11": 4, "Q_11": 4, "sigma_1": 3}, abs=1e-9)
    rate = -0.25 / 1.5**2
    assert point.spectrum.within == pytest.approx([rate, -2 * 5], abs=1e-8)
    assert point.spectrum.across == pytest.approx([rate], abs=1e-8)
    assert found.index_sums == {0.25: 1}


def test_the_target_itself_is_a_fixed_point_of_learned_weights():
    points = annealvi.find_fixed_points(session_of(EUCLIDEAN, WEIGHTS), [1.0], count=12).points
    target = {"M_11": 9, "M_21": -9, "Q_11": 9, "Q_12": -9, "Q_22": 9, "w_1": 0.8, "w_2": 0.2}
    (same,) = (p for p in points if p.state == pytest.approx(target, abs=1e-8))
    assert same.stable


def test_far_components_share_the_weight_of_the_tempered_target():
    """Far apart, one component at each mode has log w_i − β log w*_i = constant, up to overlaps of e^{−R²/2}."""
    points = annealvi.find_fixed_points(session_of(WEIGHTS), [BETA], count=12).points
    (apart,) = (p for p in points if p.state["m_1"] > 0.999 and p.state["m_2"] < -0.999 and p.stable)
    ratio = (0.8 / 0.2) ** BETA
    assert apart.state["w_1"] == pytest.approx(ratio / (1 + ratio), abs=math.exp(-4.5))
    assert apart.state["w_1"] + apart.state["w_2"] == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize(
    ("changes", "count"), [((EUCLIDEAN,), 24), pytest.param((SCALES, "space.dimension=3"), 8, marks=pytest.mark.slow)]
)
def test_a_missing_point_shows_in_the_indices(changes, count):
    session = session_of(*changes)
    found = annealvi.find_fixed_points(session, [BETA], count=count)
    assert found.index_sums == {BETA: 1}
    flow = open_mean_flow(session)
    counted = [p for p in found.points if p.spectrum.index]
    assert len(counted) >= 5
    for gone in counted:
        assert index_sum(flow, [p for p in found.points if p is not gone]) != 1


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_the_indices_sum_to_one_off_spheres_in_any_number_of_dimensions(dimension):
    found = annealvi.find_fixed_points(session_of(EUCLIDEAN, f"space.dimension={dimension}"), [BETA], count=24)
    assert found.index_sums == {BETA: 1}
    assert len(found.points) >= 9


@pytest.mark.quick
def test_frames_have_known_characteristics():
    """One frame of no vector, two points, a circle, a sphere, and the two circles of O(2)."""
    known = {(0, 3): 1, (1, 1): 2, (1, 2): 0, (1, 3): 2, (2, 2): 0, (2, 3): 0}
    assert {key: frames_characteristic(*key) for key in known} == known


def test_components_that_die_are_counted_and_not_found():
    found = annealvi.find_fixed_points(session_of(WEIGHTS), [BETA], count=12)
    assert found.ran_away[BETA] > 0
    assert min(min(p.state["w_1"], p.state["w_2"]) for p in found.points) > 0.01
    assert found.index_sums == {BETA: None}
    text = fixed_point_table(found)
    assert "no check of completeness: learned weights may vanish" in text
    assert f"{found.ran_away[BETA]} starts ran away" in text
    assert found.as_dict()["counts"][0]["runaway_starts"] == found.ran_away[BETA]


def test_branches_of_learned_weights():
    """The branches pass through every fixed point, and an eigenvalue by the grid vanishes at every bifurcation."""
    session = session_of(PLANE, WEIGHTS)
    branches = annealvi.continue_branches(session, 2.0, 300.0, levels=3, count=24)
    assert branches.complete
    kinds = [b.kind for b in branches.bifurcations]
    assert (kinds.count("fold"), kinds.count("pitchfork")) == (1, 2)
    for bifurcation in branches.bifurcations:
        state = dict(zip(branches.state_names, bifurcation.state, strict=True))
        means = session.means_of_states(bifurcation.state, 2)
        spectrum = OnGrid(session, means, state, 1 / bifurcation.temperature).spectrum()
        # One eigenvalue belongs to the common shift of θ. A state gives means in a plane to 1e-8 alone.
        assert np.sort(np.abs(spectrum))[1] < 2 * ACCURATE
    for point in annealvi.find_fixed_points(session, [0.1], count=24).points:
        assert distance_from(branches, point) < 5e-3  # the error of a chord


@pytest.mark.slow
def test_branches_end_where_a_component_dies():
    """A narrow component in many dimensions loses its weight as the temperature rises, like 0.9^{d(1 − β)}."""
    problem = annealvi.load_problem("two-scales", [WEIGHTS, "space.dimension=200"])
    branches = annealvi.continue_branches(annealvi.open_session(problem), 2.0, 10.0, levels=2, count=4)
    assert branches.complete
    dying = [branch for branch in branches.branches if "dying" in branch.ends]
    assert len(dying) >= 2
    for branch in dying:
        last = branch.states[-1 if branch.ends[1] == "dying" else 0]
        assert min(last[-2:]) == pytest.approx(1e-6, rel=1e-6)
    assert "followed to where a weight falls below 1e-06" in bifurcation_table(branches)


def test_branches_of_the_euclidean_flow():
    session = session_of(EUCLIDEAN)
    branches = annealvi.continue_branches(session, 1.5, 30.0, levels=3, count=24)
    assert branches.complete
    assert {b.kind for b in branches.bifurcations} == {"fold"}
    assert "M_11" in bifurcation_table(branches)
    for point in annealvi.find_fixed_points(session, [0.1], count=24).points:
        assert distance_from(branches, point) < 5e-2  # the same for overlaps of some ten


def distance_from(branches, point: FixedPoint) -> float:
    """How far the point's state lies from the chords of the branches and their images at the point's temperature."""
    state, level = np.array(list(point.state.values())), -math.log(point.beta)
    gaps = []
    for branch in branches.branches:
        log_t = np.log(branch.temperature)
        for k in np.flatnonzero((log_t[:-1] - level) * (log_t[1:] - level) <= 0):
            share = (level - log_t[k]) / (log_t[k + 1] - log_t[k])
            gaps += [np.abs((1 - share) * x[k] + share * x[k + 1] - state).max() for x in branch.images]
    return min(gaps)


def test_the_command_shows_weights_and_refuses_means_that_rest(capsys):
    assert main(["fixed-points", "learned-weights", "--T", "3", "--starts", "4"]) == 0
    header = next(line for line in capsys.readouterr().out.splitlines() if "growth rates" in line)
    assert header.split() == ["m_1", "m_2", "s", "w_1", "w_2", "growth", "rates"]
    assert main(["fixed-points", "--set", 'flow.learn=["weights"]']) == 2
    refusal = capsys.readouterr().err.strip()
    assert "let the flow learn the means as well" in refusal
    assert "\n" not in refusal
