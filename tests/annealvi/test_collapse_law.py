"""The law of collapse over dimensions agrees with other routes wherever there are any."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.collapse_law import _starts
from annealvi.collapse.growing_directions import InitialOverlaps, _by_growth
from derive.problem.specification import ScheduleSpec

SIGMAS = 4.0
"""Standard errors within which two results agree; one comparison of 16 000 fails by chance."""


def session_of(name, T0, t0, dimension=128, *settings):
    problem = annealvi.load_problem(name, [f"space.dimension={dimension}", *settings])
    return annealvi.open_session(replace(problem, schedule=ScheduleSpec("exponential", T0, t0)))


def weights_at(overlaps, starts, log_own, dimension):
    logs = overlaps.log_density(starts, dimension) - log_own
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


@pytest.mark.quick
@pytest.mark.parametrize("dimension", [5, 8, 32])
def test_the_density_of_initial_overlaps_has_the_moments_of_uniform_unit_vectors(dimension):
    """Of unit vectors u, v in R^d and a fixed e: E[(u·e)²] = 1/d, E[(u·e)⁴] = 3/d(d + 2), E[(u·e)(v·e)(u·v)] = 1/d²."""
    overlaps = InitialOverlaps(session_of("bimodal", 30, 30))
    starts, log_own = _starts(np.eye(3), [4, 32], 2**17, 0)
    possible = np.linalg.eigvalsh(overlaps.cosines(starts))[:, 0] > 0
    assert 0.5 < possible.mean() < 1
    starts, log_own = starts[possible], log_own[possible]
    weights = weights_at(overlaps, starts, log_own, dimension)
    u, v, s = starts.T
    for moment, expected in (
        (u**2, 1 / dimension),
        (s**2, 1 / dimension),
        (v**4, 3 / (dimension * (dimension + 2))),
        (u * v * s, 1 / dimension**2),
        (u * v, 0.0),
    ):
        error = np.sqrt(np.sum(weights**2 * (moment - expected) ** 2))
        assert weights @ moment == pytest.approx(expected, abs=SIGMAS * error)
        assert error < 0.05 / dimension


@pytest.mark.quick
def test_cosines_and_states_are_those_of_vectors():
    session = session_of("simplex", 30, 30, 7)
    overlaps = InitialOverlaps(session)
    rng = np.random.default_rng(3)
    means = rng.standard_normal((5, 3, 7))
    means /= np.linalg.norm(means, axis=2, keepdims=True)
    modes = session.modes(7)
    # An orthonormal basis of the modes' span that is any but the one in the code, rotated to it.
    basis = np.linalg.qr(modes[list(session.symbolic.independent_modes)].T)[0].T
    coordinates = np.concatenate(
        [(means @ basis.T).reshape(5, -1), (means @ means.transpose(0, 2, 1))[:, *np.tril_indices(3, -1)]], axis=1
    )
    states = session.states_of_vectors(3.0 * means)
    assert overlaps.states(coordinates) == pytest.approx(states, abs=1e-12)
    deviation = 1e-3 * rng.standard_normal((1, 9))
    origin = overlaps.states(np.zeros((1, 9)))
    assert overlaps.measure @ (overlaps.states(deviation) - origin)[0] == pytest.approx(deviation[0], abs=1e-14)


@pytest.mark.quick
def test_directions_come_by_their_largest_growth_at_any_time():
    """Three rotated directions: one that grows late, one that grows early and is damped later, and a damped one."""
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    times = np.linspace(0, 1, 101)
    logs = np.array([3.0 * times, 2.0 * np.sin(np.pi * times), -times]).T
    found = _by_growth(_Coordinates(3), np.exp(logs)[:, :, None] * rotation, 1.0)
    assert found.growth == pytest.approx([3.0, 2.0])
    assert np.abs(found.directions @ rotation.T) == pytest.approx(np.eye(3)[:2], abs=1e-12)
    assert found.damped == pytest.approx(0.0, abs=1e-12)


class _Coordinates:
    def __init__(self, count):
        self.count = count


@pytest.mark.parametrize(("T0", "t0"), [(300, 300), (30, 100)])
def test_the_pair_grows_by_the_exponent_of_the_formula(T0, t0):
    """The formula integrates the transverse rate λ; here the paths of small deviations are followed."""
    session = session_of("bimodal", T0, t0)
    growth = annealvi.collapse_probability(session, ["formula"]).formula.growth
    law = annealvi.collapse_law(session, [10**9])
    assert law.growing.growth[0] == pytest.approx(growth, abs=2e-3)
    assert law.growing.damped <= 1e-4


@pytest.mark.parametrize("settings", [(), ("target.weights=[0.5, 0.5]",), ("proposal.weights=[0.4, 0.6]",)])
def test_the_law_of_a_pair_is_that_of_the_formula(settings):
    """The exact law at all dimensions, and the leading order where 1/√d is below the standard error."""
    dimensions = [8, 64, 1024]
    law = annealvi.collapse_law(session_of("bimodal", 30, 100, 128, *settings), dimensions, exact=True, n=2**15)
    leading = annealvi.collapse_law(session_of("bimodal", 30, 100, 128, *settings), [1024], n=2**14)
    for place, dimension in enumerate(dimensions):
        session = session_of("bimodal", 30, 100, dimension, *settings)
        formula = annealvi.collapse_probability(session, ["formula"]).formula
        assert law.p[place] == pytest.approx(formula.p, abs=SIGMAS * law.stderr[place] + formula.error)
        assert law.stderr[place] < 0.008
    assert leading.p[0] == pytest.approx(formula.p, abs=SIGMAS * leading.stderr[0] + formula.error)


def test_three_modes_are_missed_as_in_ensembles():
    """Every set of missed modes, in few and in many dimensions, from starts in the growing directions alone."""
    dimensions = [32, 16_384]
    law = annealvi.collapse_law(session_of("simplex", 30, 20), dimensions, n=1024)
    towards_modes = law.growing.directions[:, :6].reshape(-1, 3, 2)
    parting = np.abs(towards_modes.sum(axis=1)).max(axis=1) < 1e-3
    # Two differences between three alike components grow alike, towards each of two directions of the modes' span.
    growth = law.growing.growth[parting]
    assert len(growth) == 4
    assert growth[::2] == pytest.approx(growth[1::2], abs=1e-3)
    for place, dimension in enumerate(dimensions):
        n = 768
        found = annealvi.collapse_by_ensemble(session_of("simplex", 30, 20, dimension), n=n, seed=1).outcomes
        shares = {tuple(map(int, key.split(","))): share for key, share in found.as_dict()["modes_missed"].items()}
        for modes in {*shares, *law.missed}:
            share = shares.get(modes, 0.0)
            p, error = law.missed.get(modes, np.zeros((2, 2)))[place]
            own = np.sqrt((share * n + 1) / n) / np.sqrt(n)
            assert p == pytest.approx(share, abs=SIGMAS * np.hypot(error + 1 / law.effective[place], own))
        assert law.p[place] == pytest.approx(found.p, abs=SIGMAS * np.hypot(law.stderr[place], found.stderr))
    assert law.p[1] - law.p[0] > SIGMAS * np.hypot(*law.stderr)  # otherwise dimensions would play no part


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "law", "--dimensions", "3"], "give 4 or more"),
        (["--method", "law", "--dimensions", "32,x"], "'x' is not a whole number"),
        (["--dimensions", "32"], "add law to --method"),
        (["two-scales", "--method", "law"], "target.scales: the equations themselves depend on d"),
        (["learned-scales", "--method", "law"], "flow.learn: the equations themselves depend on d"),
        (["--method", "law", "--set", "schedule.kind=adaann"], "choose a schedule that is a function of time"),
        (["--method", "law", "--over", "space.dimension=3,4"], "leave out --over"),
    ],
)
def test_what_has_no_law_is_one_line(arguments, words, capsys):
    assert main(["collapse", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert words in error[0]


def test_given_starts_are_those_that_are_followed_whether_or_not_the_cost_is_estimated():
    session = session_of("one-component", 30, 30)
    starts = np.full((200, 1), 0.9)
    assert annealvi.outcomes_of_states(session, starts).covered[:, 0].all()
    for options in ({}, {"max_cost": 1e6}):
        found = annealvi.collapse_by_ensemble(session, starts=starts, **options)
        assert len(found.outcomes.covered) == 200
        assert found.outcomes.covered[:, 0].all()
        assert not found.outcomes.covered[:, 1].any()
    with pytest.raises(annealvi.BadInput, match="starts"):
        annealvi.collapse_by_ensemble(session, starts=np.full((3, 1), 1.5))


def test_dimensions_too_far_apart_for_the_starts_are_refused():
    session = session_of("bimodal", 30, 30)
    with pytest.raises(annealvi.BadInput, match="starts count at d = "):
        annealvi.collapse_law(session, [4, 10**9], exact=True, n=1)


def test_the_command_prints_and_writes_a_law(tmp_path, capsys):
    path = tmp_path / "law.json"
    asked = ["--method", "law", "--set", "schedule.T0=30", "--dimensions", "100,8,100", "--n", "1000"]
    assert main(["collapse", *asked, "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "leading order in 1/√d" in shown
    found = json.loads(path.read_text())["law"]
    assert found["dimensions"] == [8, 100]
    assert found["order"] == "leading"
    assert all(f"│ {p:.4f} ± {error:.4f}" in shown for p, error in zip(found["p"], found["stderr"], strict=True))
    sums = np.sum([rows["p"] for rows in found["modes_missed"].values()], axis=0)
    assert sums == pytest.approx(found["p"])
    assert min(found["effective_runs"]) > 100


def test_a_single_mode_at_the_origin_is_never_missed():
    """The modes span nothing, and the only coordinate is the cosine of the two means."""
    one = ("target.means=[[0.0]]", "target.weights=[1.0]", "target.scales=[1.0]", "proposal.radius=3.0")
    law = annealvi.collapse_law(session_of("bimodal", 30, 30, 128, *one), [8, 64], n=1)
    assert law.growing.overlaps.count == 1
    assert not law.p.any()
    assert not law.missed
