"""Recommended schedules.

They keep their promise, no shorter schedule of their kind does, and wrong requests are refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

import annealvi
from annealvi.cli.program import main
from annealvi.collapse import recommendation as advice
from annealvi.collapse.ensemble_search import EnsembleSearch
from annealvi.collapse.outcome import Outcomes
from annealvi.collapse.recommendation import recommend
from annealvi.collapse.schedule_search import ScheduleSearch
from derive.problem.specification import BadInput

EASY = ["target.means=[[2.0], [-2.0]]", "proposal.radius=2.0", "space.dimension=64"]
SET = [word for change in EASY for word in ("--set", change)]


@pytest.fixture(scope="module")
def easy():
    return annealvi.load_problem("bimodal", EASY)


@pytest.mark.slow
def test_the_recommendation_keeps_its_promise_in_an_ensemble_and_is_no_longer_than_needed(easy):
    found = recommend(easy, 0.3, kinds=("hold", "linear"), n=20_000, seed=3)
    assert found.confirmed
    assert found.p <= found.p_ode + 4 * found.stderr  # the search is quick, the check fine
    assert found.p_ode < found.p_upper <= 0.3
    # By the formula P is 0.3 for the shortest schedule, and at most 5 % less for the recommended one. These 5 % are
    # several standard errors of 0.003.
    assert min(c.duration for c in found.compared) <= found.duration
    assert found.p > 0.285
    assert found.schedule.kind == found.compared[0].kind
    for candidate in found.compared:
        shorter = [
            *EASY,
            f"schedule.kind='{candidate.kind}'",
            f"schedule.T0={candidate.T0}",
            f"schedule.t0={0.9 * candidate.t0}",
        ]
        session = annealvi.open_session(annealvi.load_problem("bimodal", shorter))
        assert annealvi.collapse_probability(session, ["formula"]).formula.p > 0.3
        assert candidate.equal <= candidate.p * 1.02 or candidate.duration > found.duration


class Known:
    """A search whose P is `promised` times what was asked for.

    A stubborn search keeps its first P.
    """

    def __init__(self, p_max, promised, stubborn=False):
        self.p, self.promised, self.stubborn, self.duration = p_max * promised, promised, stubborn, 1 / p_max
        self.p_max = p_max

    def checked(self):
        return self.p, SimpleNamespace(session=self, kernel=None)

    def tightened(self, p_max):
        return self if self.stubborn else Known(p_max, self.promised)


@pytest.mark.parametrize(
    ("promised", "n", "rounds", "confirmed"), [(0.5, 4000, 1, True), (1.1, 4000, 2, True), (1.3, 4000, 4, False)]
)
def test_longer_schedules_are_tried_until_an_ensemble_confirms(monkeypatch, promised, n, rounds, confirmed):
    """Exact shares stand in place of samples.

    Where the formula promises too little, the search asks for a smaller P. Where the formula is far off, nothing is
    confirmed.
    """
    seen = []

    def exactly(session, n, seed, device, kernel):
        seen.append(seed)
        return SimpleNamespace(outcomes=Outcomes(np.arange(n)[:, None] >= round(min(session.p, 1) * n)))

    monkeypatch.setattr(advice, "collapse_by_ensemble", exactly)
    check = advice._confirm(Known(0.02, promised, stubborn=not confirmed), 0.02, n, 7, "cpu")
    assert (check.upper <= 0.02) == confirmed
    assert seen == list(range(7, 7 + rounds))
    # The bound is the root of the binomial's distribution function, at the level that all rounds together keep.
    collapsed = round(min(check.search.p, 1) * n)
    assert check.upper == 1 or binom.cdf(collapsed, n, check.upper) == pytest.approx(0.05 / 4, rel=1e-6)


def test_too_few_trajectories_to_confirm_are_said_at_once(monkeypatch):
    monkeypatch.setattr(
        advice, "collapse_by_ensemble", lambda *a, n, **k: SimpleNamespace(outcomes=Outcomes(np.ones((n, 1), bool)))
    )
    fewest = advice.fewest_to_confirm(0.01)
    assert 0.99**fewest <= 0.05 / 4 < 0.99 ** (fewest - 1)
    assert advice._confirm(Known(0.01, 0.1), 0.01, fewest, 0, "cpu").upper <= 0.01
    assert advice._confirm(Known(0.01, 0.1), 0.01, fewest - 1, 0, "cpu").upper > 0.01


class Falling(ScheduleSearch):
    """A search whose P is 0.1 from the duration `needed` on, at every T0, and 0.2 before."""

    def __init__(self, needed):
        super().__init__([], "hold", 0.1)
        self.needed, self.tried = needed, []

    def p(self, T0, t0):
        self.tried.append(t0)
        return 0.1 if t0 >= self.needed else 0.2

    def _scale(self, T0, duration):
        return duration


@pytest.mark.parametrize(("needed", "longest"), [(30.0, 1e3), (2e4, 1e6**0.75), (9e5, 1e6)])
def test_the_shortest_duration_is_found_and_none_much_longer_is_tried(needed, longest):
    search = Falling(needed)
    search.find()
    assert needed <= search.duration <= 1.01 * needed
    assert max(search.tried) == longest


def test_a_bound_that_no_duration_keeps_gives_no_schedule():
    search = Falling(1.1e6)
    search.find()
    assert search.duration == math.inf


@pytest.mark.slow
def test_a_range_of_separations_gets_the_schedule_of_its_worst_case(easy):
    found = recommend(easy, 0.4, kinds=("hold",), R=(1.6, 2.2), n=4000)
    assert found.separation == pytest.approx(2.2)
    for R in (1.6, 1.75, 1.9, 2.05, 2.2):
        changes = ["space.dimension=64", f"target.means=[[{R}], [{-R}]]", f"proposal.radius={R}"]
        spec = found.schedule
        schedule = ["schedule.kind='hold'", f"schedule.T0={spec.T0}", f"schedule.t0={spec.t0}"]
        session = annealvi.open_session(annealvi.load_problem("bimodal", [*changes, *schedule]))
        assert annealvi.collapse_probability(session, ["formula"]).formula.p <= 0.4 * 1.01


class FallingOverStarts(EnsembleSearch):
    """A search whose P is known: it falls with the duration, and is smallest at T0 = 1000."""

    def __init__(self, p_max, needed):
        super().__init__([], "hold", p_max, 0)
        self.needed, self.tried = needed, []

    _first_start = 90.0

    def _share(self, T0, duration):
        self.tried.append((T0, duration))
        return 0.1 * (self.needed / duration) ** 0.5 * (1 + math.log(T0 / 1000) ** 2)

    def _p(self, T0, duration):
        return self._share(T0, duration)

    def _is_enough(self, T0, duration):
        return self._share(T0, duration) <= self.p_max

    def _scale(self, T0, duration):
        return duration


@pytest.mark.quick
@pytest.mark.parametrize("needed", [30.0, 2e3, 5e4])
def test_a_search_by_ensembles_finds_the_valley(needed):
    search = FallingOverStarts(0.1, needed)
    search.find()
    # The grid of T0 passes within a factor of √√2 of the best, where the shortest duration is 1.06 times as long.
    assert needed <= search.duration <= 1.1 * 1.06 * needed
    assert 1000 / 2**0.5 <= search.T0 <= 1000 * 2**0.5
    assert len(search.tried) < 70
    tighter = search.tightened(0.08)
    assert 1.4 * search.duration < tighter.duration < 1.8 * search.duration


def test_a_search_by_ensembles_gives_up_where_no_duration_is_enough():
    search = FallingOverStarts(0.1, 1e6)
    search.find()
    assert search.duration == math.inf


def test_a_search_by_ensembles_agrees_with_the_formula_where_both_hold(easy):
    by_formula = ScheduleSearch.of(easy, "hold", None, 0.3, "cpu")
    by_formula.find()
    search = EnsembleSearch.of(easy, "hold", None, 0.3, "cpu", 5)
    search.find()
    assert by_formula.duration / 1.1 < search.duration < 1.3 * by_formula.duration
    p = by_formula.p(search.T0, search.t0)
    assert abs(search.checked()[0] - p) < 4 * math.sqrt(0.3 * 0.7 / 256)
    assert p < 0.3 + 4 * math.sqrt(0.3 * 0.7 / 4096)  # the ensemble that took it has at most 4096 starts


def test_a_mixture_without_a_formula_has_a_recommendation():
    uneven = annealvi.load_problem("two-scales", ["space.dimension=16", "target.means=[[2],[-2]]", "proposal.radius=2"])
    found = recommend(uneven, 0.5, kinds=("hold",), n=1000, seed=2)
    assert found.method == "ensembles"
    assert found.confirmed
    assert found.p_ode < found.p_upper <= 0.5
    shorter = replace(found.schedule, t0=found.schedule.t0 / 3)
    session = annealvi.open_session(replace(uneven, schedule=shorter))
    assert annealvi.collapse_by_ensemble(session, n=1000, seed=9).outcomes.p > 0.4
    assert "this problem's mixtures" in found.as_dict()["covers"]


@pytest.mark.parametrize("p_max", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_no_probability_is_refused(easy, p_max):
    with pytest.raises(BadInput, match="no probability"):
        recommend(easy, p_max)


def test_modes_of_which_one_attracts_from_everywhere_are_refused(easy):
    """Here |h*| = ½ log 4 = 0.69 exceeds R² = 0.25."""
    with pytest.raises(BadInput, match=r"at R = 0\.5 both components end at the heavier mode"):
        recommend(easy, 0.3, kinds=("hold",), R=(0.5, 2.0))


def test_an_empty_range_is_refused(easy):
    with pytest.raises(BadInput, match="empty"):
        recommend(easy, 0.1, R=(3.0, 2.0))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--p-max", "0"],
        ["--p-max", "x"],
        [],
        ["--p-max", "0.1", "--R", "3:2"],
        ["--p-max", "0.1", "--kinds", "table"],
        ["one-component", "--p-max", "0.1"],
        ["--p-max", "0.1", "--n", "0"],
    ],
)
def test_the_command_refuses_with_one_line_and_status_2(arguments, capsys):
    assert main(["recommend", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_prints_json(capsys):
    assert main(["recommend", *SET, "--p-max", "0.5", "--kinds", "hold", "--n", "500", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"schedule", "p", "duration", "compared"} <= set(found)
    assert found["schedule"]["kind"] == "hold"
    assert found["p"] <= 0.505
    assert found["confirmed"]
    assert found["p_ode"] < found["p_upper"] <= 0.5
    assert "T0 and t0 do not carry over to flows" in found["covers"]
