"""Trajectories that settle have the outcomes of those that are followed to the end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import annealvi
from annealvi.collapse.ensemble import compiled_for_ensembles
from annealvi.collapse.outcome import Outcomes, judging
from annealvi.collapse.settling import NEAR, SCOUTS, Scouts, Task, follow
from kernels.integrate.domain import widest_tolerance

END = 40.0


class Flow:
    """Stands for a kernel: a flow on the line that is known in closed form, besides a coordinate that never moves.

    The state contracts by e^−t up to the time `until`, and then follows y' = y − y³.
    """

    lanes, where, averages = 1, SimpleNamespace(kind="cpu"), SimpleNamespace(groups=())

    def __init__(self, until: float) -> None:
        self.until, self.followed = until, 0.0

    def integrate(self, states, times, **options):
        assert len(options.get("number", states)) == len(states)
        self.followed += len(states) * (times[-1] - times[0])
        y = np.stack([self._at(states, times[0], t) for t in times], axis=1)
        return SimpleNamespace(y=y, method="closed form", steps=np.ones(len(states)))

    def _at(self, states, begin, t):
        contracted = states[:, 0] * np.exp(min(begin, self.until) - min(t, self.until))
        growth = np.exp(2 * (max(t, self.until) - max(begin, self.until)))
        y = contracted * np.sqrt(growth / (1 + contracted**2 * (growth - 1)))
        return np.column_stack([y, states[:, 1]])


def positive(states):
    return Outcomes(states[:, :1] > 0)


def beyond(states):
    return Outcomes(states[:, 1:] > 0.3)


def followed(flow, judge, companies, readings=(END,)):
    task = Task(flow, np.array(readings), judge, {})
    runs = list(follow(task, companies, lambda done: None))
    fields = (np.concatenate([getattr(run, name) for run in runs]) for name in ("y", "t", "settled"))
    return SimpleNamespace(**dict(zip(("y", "t", "settled"), fields, strict=True)))


def starts(n, still=0.0, seed=1):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(size=n), still * rng.normal(size=n)])


@pytest.mark.quick
def test_most_trajectories_of_a_bistable_flow_settle_and_have_the_right_sign():
    states, flow = starts(4000), Flow(0.0)
    found = followed(flow, positive, [states])
    assert ((found.y[:, -1, 0] > 0) == (states[:, 0] > 0)).all()
    assert found.settled.mean() > 0.9
    assert (found.t[found.settled] < END).all()
    assert (found.t[~found.settled] == END).all()
    assert flow.followed < 0.5 * len(states) * END
    np.testing.assert_allclose(np.abs(found.y[:, -1, 0]), 1.0, atol=NEAR)


@pytest.mark.quick
def test_trajectories_that_come_together_before_they_part_do_not_settle_before():
    # They contract to 1e-5 of their distance, far below what counts as one, and then part.
    states, until = starts(2000), 12.0
    found = followed(Flow(until), positive, [states])
    assert ((found.y[:, -1, 0] > 0) == (states[:, 0] > 0)).all()
    assert found.settled.any()
    assert (found.t[found.settled] > until + 5).all()


@pytest.mark.quick
def test_what_neither_parts_nor_comes_together_never_settles():
    # The outcome depends on a coordinate that is frozen: near trajectories stay as near as they are.
    states = starts(1500, still=1.0)
    found = followed(Flow(0.0), beyond, [states])
    assert not found.settled.any()
    assert ((found.y[:, -1, 1] > 0.3) == (states[:, 1] > 0.3)).all()


@pytest.mark.quick
def test_outcomes_at_all_readings_have_to_agree():
    # All end at one point, but half of them are still on the other side at the first reading.
    def late(states):
        return Outcomes(states[:, :1] > 1e-7)

    states = np.abs(starts(2000))
    readings = (2.0, 16.0, END)
    flow = Flow(END)  # contracts to the end
    found = followed(flow, late, [states], readings)
    exact = flow.integrate(states, np.array([0.0, *readings]), number=states).y[:, 1:]
    for column in range(len(readings)):
        assert (late(found.y[:, column]).covered == late(exact[:, column]).covered).all()


@pytest.mark.quick
def test_later_companies_rely_on_the_witnesses_of_earlier_ones():
    states = starts(3000)
    whole, parts = Flow(0.0), Flow(0.0)
    together = followed(whole, positive, [states])
    apart = followed(parts, positive, np.split(states, [1000, 1500]))
    assert (positive(together.y[:, -1]).covered == positive(apart.y[:, -1]).covered).all()
    assert parts.followed < 1.2 * whole.followed


@pytest.mark.quick
def test_fewer_trajectories_than_scouts_are_all_followed():
    found = followed(Flow(0.0), positive, [starts(SCOUTS // 2)])
    assert not found.settled.any()
    assert (found.t == END).all()


@pytest.mark.quick
def test_scouts_that_end_apart_give_no_station():
    task = Task(Flow(0.0), np.array([END]), beyond, {})
    assert len(Scouts.of(task, starts(500, still=1.0)).stations) == 0


def test_settled_outcomes_of_a_mixture_are_those_of_full_runs():
    problem = annealvi.load_problem("two-scales", ["schedule.T0=300", "schedule.t0=100"])
    session = annealvi.open_session(problem)
    kernel = compiled_for_ensembles(session, "cpu")
    found = annealvi.collapse_by_ensemble(session, n=600, seed=3, kernel=kernel)
    options = {"rtol": 1e-6, "atol": 1e-8, "domain_tolerance": widest_tolerance(1e-6)}
    ends = kernel.integrate(session.random_states(600, 3), [0.0, session.end_time()], **options).y[:, -1]
    np.testing.assert_array_equal(found.outcomes.covered, judging(session)(ends).covered)
    assert found.settled > 400
    assert found.as_dict()["settled"] + found.as_dict()["run_to_end"] == 600


def test_an_ensemble_stops_at_the_standard_error_that_is_enough():
    session = annealvi.open_session(annealvi.load_problem("bimodal"))
    rough = annealvi.collapse_by_ensemble(session, n=10_000, error=0.02, seed=5)
    assert rough.outcomes.stderr <= 0.02
    assert len(rough.t) < 700
    whole = annealvi.collapse_by_ensemble(session, n=10_000, seed=5)
    np.testing.assert_array_equal(rough.outcomes.covered, whole.outcomes.covered[: len(rough.t)])
