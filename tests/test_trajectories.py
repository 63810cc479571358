"""Paths as the Python API gives them: particles extrapolated to step zero, and their agreement with the ODE."""

from __future__ import annotations

import json

import numpy as np
import pytest

import annealvi
from annealvi.cli import main


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=constant", "schedule.T0=2", "space.dimension=16"]))


@pytest.fixture(scope="module")
def means():
    first, second = np.zeros(16), np.zeros(16)
    first[:2], second[:3] = (1.2, np.sqrt(9 - 1.44)), (-0.3, -0.5, np.sqrt(9 - 0.34))
    return np.repeat(np.array([[first, second]]), 48, axis=0)


def test_extrapolated_particles_follow_the_ode_where_plain_ones_do_not(session, means):
    """A coarse step of 0.8 biases the mean by many standard errors; the extrapolation leaves less than a fifth of that bias."""
    coarse = annealvi.simulate(session, means, dt=0.8, t_end=4.8, points=4, particles=512)
    better = annealvi.simulate(session, means, dt=0.8, t_end=4.8, points=4, particles=512, extrapolate=True)
    theory = annealvi.integrate(session, session.states_of_vectors(means[:1]), t_end=4.8, points=4).values[0]
    wrong = np.abs(coarse.values.mean(0) - theory)[1:]
    left = np.abs(better.values.mean(0) - theory)[1:]
    assert (wrong / coarse.standard_error[1:]).max() > 6
    assert left.max() < wrong.max() / 5 + 4 * better.standard_error.max()
    np.testing.assert_allclose(better.bias[1:], (coarse.values.mean(0) - theory)[1:] / 2, atol=0.5 * wrong.max())


def test_the_command_reports_bias_and_standard_error(capsys):
    arguments = ["simulate", "--set", "space.dimension=8", "--replicas", "3", "--particles", "4", "--t-end", "2", "--dt", "0.5"]
    assert main([*arguments, "--extrapolate", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["bias"]) == set(result["standard_error"]) == {"m_1", "m_2", "s"}
    assert len(result["bias"]["s"]) == len(result["t"])
    assert main(arguments) == 0
    assert "bias" not in capsys.readouterr().out
