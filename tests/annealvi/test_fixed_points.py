"""Fixed points, spectra and branches.

The tests compare with hand-typed equations that are solved here, and with what holds for every flow.
"""

from __future__ import annotations

import math
from functools import cache

import mpmath
import numpy as np
import pytest
import retyped
from retyped import gaussian_mean_mp
from scipy.optimize import newton

from annealvi.fixed_points import bifurcation_table, continue_branches, find_fixed_points, fixed_point_table
from annealvi.fixed_points.bifurcation_diagram import bifurcation_figure
from annealvi.fixed_points.mean_flow import open_mean_flow, retract, tangent_basis
from annealvi.session.session import open_session
from annealvi.show.output import as_plain
from derive.problem.problem_file import load_problem
from derive.problem.specification import BadInput

BETAS = (1.0, 0.3, 0.01, 0.002)
F_mp, G_1_mp = cache(retyped.F_mp), cache(retyped.G_1_mp)


def session_of(name: str = "bimodal", *changes: str):
    return open_session(load_problem(name, list(changes)))


@pytest.fixture(scope="module")
def bimodal():
    return session_of()


@pytest.fixture(scope="module")
def found(bimodal):
    return find_fixed_points(bimodal, BETAS)


@pytest.fixture(scope="module")
def branches(bimodal):
    return continue_branches(bimodal, 1.0, 1000.0)


def nearest(points, **state):
    return min(points, key=lambda p: sum(abs(p.state[name] - value) for name, value in state.items()))


def split_state(R: str, w_star: str, guess: str) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The fixed point m_1 = m_2 = m whose means lie in one plane, so that s = 2m² − 1, as (m, s).

    The root is where ds/dt vanishes, at beta = 1 and w_1 = 1/2; there dm_1/dt vanishes too, which is asserted. It is
    found in double precision first.
    """

    def rate(m):
        return F_mp(m, R, w_star) - 2 * m * G_1_mp(2 * m**2 - 1, R, "0.5")

    def rough_rate(m):
        return retyped.F(m, float(R), float(w_star)) - 2 * m * retyped.G_1(2 * m**2 - 1, float(R), 0.5)

    rough = newton(rough_rate, float(guess), x1=float(guess) - 1e-5, tol=1e-14)
    with mpmath.workdps(32):
        m = mpmath.findroot(rate, (mpmath.mpf(rough), mpmath.mpf(rough) - mpmath.mpf("1e-9")), tol=1e-40)
        s = 2 * m**2 - 1
        F, G = F_mp(m, R, w_star), G_1_mp(s, R, "0.5")
        assert abs(F * (1 - m**2) - G * (m - s * m)) < 1e-20
        assert abs(F * (m - s * m) - G * (1 - s**2)) < 1e-20
        return m, s


def test_the_split_state_is_the_attractor_of_collapsed_runs(found):
    m, s = split_state("3", "0.8", "0.9999")
    point = nearest(found.at(1.0), m_1=float(m), m_2=float(m), s=float(s))
    assert point.stable
    assert max(abs(point.state["m_1"] - m), abs(point.state["m_2"] - m), abs(point.state["s"] - s)) < 1e-10


@pytest.mark.quick
def test_one_component_rests_at_the_modes_and_where_they_pull_alike():
    """One component rests at the modes, and at m° = −h*/R², where F(m°) = 0.

    At m° no other force is left with which the search could compare the residual.
    """
    found = find_fixed_points(session_of("one-component"), [1.0, 0.01])
    assert found.complete
    for beta in (1.0, 0.01):
        assert sorted(p.state["m_1"] for p in found.at(beta)) == pytest.approx([-1, -math.log(4) / 2 / 9, 1], abs=1e-9)


def test_the_split_state_of_near_modes():
    problem = ("target.means=[[1.5],[-1.5]]", "proposal.radius=1.5", "target.weights=[0.5,0.5]")
    points = find_fixed_points(session_of("bimodal", *problem)).at(1.0)
    m, s = split_state("1.5", "0.5", "0.9511")
    assert (round(float(m), 4), round(float(s), 4)) == (0.9511, 0.8090)
    point = nearest(points, m_1=float(m), m_2=float(m), s=float(s))
    assert point.stable
    assert max(abs(point.state["m_1"] - m), abs(point.state["s"] - s)) < 1e-11
    assert nearest(points, m_1=-float(m), m_2=-float(m), s=float(s)).stable


@pytest.mark.parametrize("beta", BETAS)
def test_collapsed_states_are_saddles_and_separated_ones_attract(found, beta):
    points = found.at(beta)
    for sign, w_star in ((1, 0.8), (-1, 0.2)):
        collapsed = nearest(points, m_1=sign, m_2=sign, s=1)
        pull = retyped.F(1, 3.0, w_star)
        typed = np.linalg.eigvalsh(np.array([[0.5 * (0.5 - beta * pull), -0.25], [-0.25, 0.5 * (0.5 - beta * pull)]]))[
            ::-1
        ]
        assert collapsed.spectrum.across == pytest.approx(typed, abs=1e-12)
        assert typed[0] > 0 > typed[1]
        assert collapsed.unstable_directions == 127
        assert nearest(points, m_1=sign, m_2=-sign, s=-1).stable


@pytest.mark.parametrize("beta", BETAS)
def test_spectra_are_those_of_the_overlaps_equations(found, beta):
    """The spectrum of the overlaps' equations consists of the eigenvalues within and of sums of two eigenvalues across.

    At rank one, the third direction of the overlaps is the square of the motion across. At rank zero, all three
    directions are products of two such motions.
    """

    def rates(y):
        return np.array([f(*y, beta, 3.0, 0.8, 0.5) for f in (retyped.dm_1, retyped.dm_2, retyped.ds)])

    compared = 0
    for point in found.at(beta):
        y = np.array(list(point.state.values()))
        if y[2] > 0.99:  # the typed G has a root of 1 − s in its argument
            continue
        assert np.abs(rates(y)).max() < 1e-10
        h = 1e-4
        slopes = np.column_stack(
            [
                (8 * (rates(y + e) - rates(y - e)) - rates(y + 2 * e) + rates(y - 2 * e)) / (12 * h)
                for e in h * np.eye(3)
            ]
        )
        across, within = point.spectrum.across, point.spectrum.within
        pairs = [across[i] + across[j] for i in range(len(across)) for j in range(i + 1)]
        assert np.sort(np.linalg.eigvals(slopes).real) == pytest.approx(np.sort([*within, *pairs]), abs=1e-7)
        compared += 1
    assert compared >= 3


def test_each_fixed_point_is_found_whatever_the_starts(bimodal, found):
    for seed, count in ((1, 48), (2, 96), (3, 24)):
        other = find_fixed_points(bimodal, BETAS, seed=seed, count=count)
        assert len(other.points) == len(found.points)
        for p, q in zip(found.points, other.points, strict=True):
            assert list(p.state.values()) == pytest.approx(list(q.state.values()), abs=1e-9)
    assert found.complete
    assert set(found.index_sums.values()) == {1}


def test_a_missing_point_shows_in_the_indices(bimodal, found):
    from annealvi.fixed_points.search import index_sum

    flow = open_mean_flow(bimodal)
    points = found.at(1.0)
    counted = [p for p in points if p.spectrum.index]
    assert index_sum(flow, points) == 1
    for gone in counted:
        assert index_sum(flow, [p for p in points if p is not gone]) != 1


@pytest.mark.parametrize("name", ["bimodal", "more-components", pytest.param("two-scales", marks=pytest.mark.slow)])
def test_forces_give_the_overlaps_rates_and_a_symmetric_linearisation(name):
    random = np.random.default_rng(5)
    session = session_of(name)
    flow = open_mean_flow(session)
    n = flow.span + flow.most_orthogonal
    means = random.normal(size=(5, len(flow.radii), n))
    means *= flow.radii[:, None] / np.linalg.norm(means, axis=-1, keepdims=True)
    velocity, basis, h = flow.velocity(0.3, means), tangent_basis(means), 1e-5
    rates = (flow.states(means + h * velocity) - flow.states(means - h * velocity)) / (2 * h)
    assert np.abs(rates - session.compile("cpu").rhs_at_beta(0.3, flow.states(means))).max() < 1e-8
    slopes = flow.linearisation(0.3, means, basis, fine=True)
    assert np.abs(slopes - slopes.transpose(0, 2, 1)).max() < 1e-11
    step = np.zeros((5, slopes.shape[-1]))
    assert retract(means, basis, step, flow.radii) == pytest.approx(means)


TWO_FOR_THREE = "proposal.weights=[0.5,0.5]", "proposal.scales=[1.0,1.0]"


@pytest.mark.parametrize("changes", [TWO_FOR_THREE, pytest.param((), marks=pytest.mark.slow)])
def test_three_modes(changes):
    session = session_of("simplex", *changes)
    found = find_fixed_points(session, (0.0005,), count=8)
    assert found.index_sums[0.0005] == 1
    kernel = session.compile("cpu")
    for point in found.points:
        state = np.array(list(point.state.values()))
        apart = np.linalg.norm(point.means[:, None] - point.means[None], axis=-1)[np.triu_indices(len(point.means), 1)]
        if apart.min() > 1e-6:  # the overlaps' own kernel divides by distances
            assert np.abs(kernel.rhs_at_beta(point.beta, state[None])).max() < 1e-9
    best = found.points[0]
    assert best.stable
    others = [
        np.abs(p.eigenvalues - best.eigenvalues).max()
        for p in found.points[1:]
        if p.eigenvalues.shape == best.eigenvalues.shape
    ]
    assert min(others) < 1e-9  # the image of the best point under the exchange of two components


def test_few_dimensions_have_no_motion_across_and_no_check_by_indices():
    found = find_fixed_points(session_of("bimodal", "space.dimension=2"))
    assert found.index_sums[1.0] is None
    assert all(p.spectrum.copies == 1 - p.rank for p in found.points)
    line = find_fixed_points(session_of("bimodal", "space.dimension=1"))
    assert len(line.points) == 4
    assert all(len(p.eigenvalues) == 0 for p in line.points)


def test_bifurcations_are_where_typed_equations_have_them(branches):
    """The branch m_1 = m_2 = m has folds and pitchforks where retyped equations have them.

    The means lie in one plane there, so that s = 2m² − 1 and βF(m) = 2mG(2m² − 1).
    """

    def beta_at(m):
        return 2 * m * G_1_mp(2 * m**2 - 1, "3", "0.5") / F_mp(m, "3", "0.8")

    def transverse_growth(m):
        with mpmath.workdps(25):
            h = mpmath.log(mpmath.mpf("4")) / 2
            slope = 9 * gaussian_mean_mp(lambda z: mpmath.sech(9 * m + h + 3 * z) ** 2, 20)
            F, s = F_mp(m, "3", "0.8"), 2 * m**2 - 1
            return beta_at(m) * (slope * (1 - m**2) - 2 * m * F) + G_1_mp(s, "3", "0.5") * (1 + s)

    folds = [b for b in branches.bifurcations if b.kind == "fold"]
    pitchforks = [b for b in branches.bifurcations if b.kind == "pitchfork"]
    assert (len(folds), len(pitchforks)) == (1, 2)
    with mpmath.workdps(20):
        h = mpmath.mpf("1e-3")
        for fold in folds:
            m = mpmath.mpf((fold.state[0] + fold.state[1]) / 2)
            before, at, after = (beta_at(m + step) for step in (-h, 0, h))
            assert abs(float(at) * fold.temperature - 1) < 1e-9
            assert abs(after - before) / (2 * h) < 1e-4 * at  # the error of the difference is of order h²
            assert min(before, after) > at
        for pitchfork in pitchforks:
            m = mpmath.mpf((pitchfork.state[0] + pitchfork.state[1]) / 2)
            assert abs(transverse_growth(m)) < 1e-10
            assert abs(float(beta_at(m)) * pitchfork.temperature - 1) < 1e-9


def test_the_pair_is_torn_at_the_critical_temperature():
    branches = continue_branches(session_of("bimodal", "target.weights=[0.5,0.5]"), 100.0, 1000.0, levels=3)
    slope = 9 * gaussian_mean_mp(lambda z: mpmath.sech(3 * z) ** 2)
    critical = slope / (2 * G_1_mp("-1", "3", "0.5"))
    (torn,) = (b for b in branches.bifurcations if abs(b.temperature - critical) < 1)
    assert torn.kind == "pitchfork"
    assert abs(torn.temperature / critical - 1) < 1e-9
    assert torn.state == pytest.approx([0, 0, -1], abs=1e-6)


def test_branches_pass_through_every_fixed_point(bimodal, branches):
    assert all("not followed" not in branch.ends for branch in branches.branches)
    for beta in (0.1, 0.005):
        for point in find_fixed_points(bimodal, (beta,)).points:
            state = np.array(list(point.state.values()))
            level = -math.log(beta)
            gaps = []
            for branch in branches.branches:
                log_t = np.log(branch.temperature)
                for k in np.flatnonzero((log_t[:-1] - level) * (log_t[1:] - level) <= 0):
                    share = (level - log_t[k]) / (log_t[k + 1] - log_t[k])
                    gaps += [
                        np.abs((1 - share) * image[k] + share * image[k + 1] - state).max() for image in branch.images
                    ]
            assert min(gaps) < 5e-3  # the error of a chord


def test_results_for_people_and_machines(tmp_path, found, branches):
    text = fixed_point_table(found)
    assert "T = 1 (beta = 1): 12 fixed points, 4 attractors" in text
    assert "indices sum to one" in text
    assert "pitchfork" in bifurcation_table(branches)
    first = as_plain(found.as_dict())["points"][0]
    assert {"state", "beta", "eigenvalues", "stable"} <= set(first)
    assert set(first["state"]) == {"m_1", "m_2", "s"}
    bifurcation_figure(branches, tmp_path / "branches.png")
    assert (tmp_path / "branches.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInput, match="the states are m_1, m_2, s"):
        bifurcation_figure(branches, states=["m_3"])


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ('flow.learn=["weights"]', "let the flow learn the means as well"),
        ('flow.learn=["weights","scales"]', "let the flow learn the means as well"),
    ],
)
def test_means_that_rest_are_refused(change, remedy):
    with pytest.raises(BadInput) as refusal:
        find_fixed_points(session_of("bimodal", change))
    assert remedy in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.quick
def test_temperatures_are_checked(bimodal):
    for betas in ((0.0,), (1.5,), (math.nan,), ()):
        with pytest.raises(BadInput, match="above 0 and at most 1"):
            find_fixed_points(bimodal, betas)
    for lowest, highest in ((0.5, 10.0), (10.0, 10.0), (1.0, math.inf)):
        with pytest.raises(BadInput, match="lowest < highest"):
            continue_branches(bimodal, lowest, highest)
