"""Paths as the Python API gives them.

Particles are extrapolated to step zero and agree with the ODE.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from kernels.integrate.errors import DomainError


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(
        annealvi.load_problem("bimodal", ["schedule.kind=constant", "schedule.T0=2", "space.dimension=16"])
    )


@pytest.fixture(scope="module")
def means():
    first, second = np.zeros(16), np.zeros(16)
    first[:2], second[:3] = (1.2, np.sqrt(9 - 1.44)), (-0.3, -0.5, np.sqrt(9 - 0.34))
    return np.repeat(np.array([[first, second]]), 48, axis=0)


def test_extrapolated_particles_follow_the_ode_where_plain_ones_do_not(session, means):
    """A coarse step of 0.8 biases the mean by many standard errors.

    The extrapolation leaves less than a fifth of that bias.
    """
    coarse = annealvi.simulate(session, means, dt=0.8, t_end=4.8, points=4, particles=512)
    better = annealvi.simulate(session, means, dt=0.8, t_end=4.8, points=4, particles=512, extrapolate=True)
    theory = annealvi.integrate(session, session.states_of_vectors(means[:1]), t_end=4.8, points=4).values[0]
    wrong = np.abs(coarse.values.mean(0) - theory)[1:]
    left = np.abs(better.values.mean(0) - theory)[1:]
    assert (wrong / coarse.standard_error[1:]).max() > 6
    assert left.max() < wrong.max() / 5 + 4 * better.standard_error.max()
    np.testing.assert_allclose(better.bias[1:], (coarse.values.mean(0) - theory)[1:] / 2, atol=0.5 * wrong.max())


def test_the_command_reports_bias_and_standard_error(capsys):
    arguments = [
        "simulate",
        "--set",
        "space.dimension=8",
        "--replicas",
        "3",
        "--particles",
        "4",
        "--t-end",
        "2",
        "--dt",
        "0.5",
    ]
    assert main([*arguments, "--extrapolate", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["bias"]) == set(result["standard_error"]) == {"m_1", "m_2", "s"}
    assert len(result["bias"]["s"]) == len(result["t"])
    assert main(arguments) == 0
    assert "bias" not in capsys.readouterr().out


def test_a_start_outside_is_named_by_its_place(session):
    starts = np.array([[0.1, -0.2, 0.3], [0.1, 1.5, 0.3]])
    with pytest.raises(annealvi.BadInput, match=r"--initial: states\[1\].m_2 = 1.5 is outside its interval \[-1, 1\]"):
        annealvi.integrate(session, starts, t_end=1.0, points=2)


def test_where_the_flow_leads_out_no_smaller_rtol_is_asked_for():
    """The flow itself leaves the domain here, so the message asks for no smaller rtol.

    At a temperature of 1e5 a learned scale grows towards 300, but its interval ends at thirty times the largest scale.
    """
    hot = annealvi.open_session(annealvi.load_problem("learned-scales", ["schedule.kind=constant", "schedule.T0=1e5"]))
    with pytest.raises(DomainError, match=r"sigma_\d = .* leaves its interval \[0.045, 36\]") as error:
        annealvi.integrate(hot, n=1, t_end=1e4, points=2, rtol=1e-5, tolerance=1e-6)
    assert "lower" in str(error.value)
    assert "rtol" not in str(error.value)


def test_where_an_error_leads_out_a_smaller_rtol_is_asked_for(session):
    with pytest.raises(DomainError, match=r"s = 1.01 leaves its interval \[-1, 1\]; use a smaller rtol"):
        session.compile("cpu").integrate([[0.0, 0.0, 1.01]], [0.0, 1.0])
