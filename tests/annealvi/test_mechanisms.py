"""The two known mechanisms of mode collapse in the derived equations, where the flow learns the weights along with the
means."""

import dataclasses

import numpy as np
import pytest

import annealvi
from derive.problem.specification import ScheduleSpec

STARTS = 200


@pytest.fixture(scope="module")
def fates():
    """For each schedule and start, whether the means end on one side, and whether a weight ends below 0.05."""

    def followed(schedule, t_end):
        problem = dataclasses.replace(annealvi.load_problem("learned-weights"), schedule=schedule)
        end = annealvi.integrate(annealvi.open_session(problem), n=STARTS, t_end=t_end, points=2, seed=1).values[:, -1]
        return np.sign(end[:, 0]) == np.sign(end[:, 1]), end[:, 3:].min(axis=1) < 0.05

    return {
        "cold": followed(ScheduleSpec("constant", 1.0), 40.0),
        "annealed": followed(ScheduleSpec("exponential", 1000.0, 400.0), 3500.0),
    }


def test_at_full_temperature_each_mechanism_takes_runs_of_its_own(fates):
    """Each mechanism occurs alone in more runs than chance explains.

    Two standard errors of a share p among STARTS runs are 2 √(p (1 − p)/STARTS) < 0.08, and each share exceeds that
    bound.
    """
    aligned, vanished = fates["cold"]
    assert (aligned & ~vanished).mean() > 0.08
    assert (vanished & ~aligned).mean() > 0.08
    assert (~aligned & ~vanished).mean() < 0.5


def test_annealing_prevents_most_of_both(fates):
    (aligned, vanished), (aligned_cold, vanished_cold) = fates["annealed"], fates["cold"]
    assert aligned.mean() < aligned_cold.mean() / 2
    assert vanished.mean() < vanished_cold.mean() / 2
