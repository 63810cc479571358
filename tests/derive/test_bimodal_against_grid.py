"""The retyped bimodal equations against the gradient of the reverse KL on a grid.

Both state the theory without the derivation, so their agreement is a check that needs no SymPy.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from grid_kl import overlap_velocity
from retyped import G_1, G_2, F, F_mp, G_1_mp, dm_1, dm_2, ds, exchange_sech, exchange_sech_mp

from kernels.particles.kl_grid import Mixture

F_REFERENCE = ("0.1", "3", "0.8")
G_REFERENCE = ("-0.3", "2", "0.37")


def unit_vectors(generator: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    vectors = generator.normal(size=(count, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("m", "R", "w_star"), [F_REFERENCE, ("-0.7", "1", "0.6"), ("0.35", "2", "0.55")])
def test_target_pull_has_thirteen_digits(m, R, w_star):
    assert abs(F(float(m), float(R), float(w_star)) - float(F_mp(m, R, w_star))) < 1e-13


@pytest.mark.parametrize(("s", "R", "w_1"), [G_REFERENCE, ("-1", "3", "0.5"), ("0.9", "1", "0.8"), ("1", "2", "0.3")])
def test_both_forms_of_the_exchange_agree(s, R, w_1):
    G = G_1_mp(s, R, w_1)
    with mpmath.workdps(40):
        assert abs(mpmath.mpf(w_1) * G - exchange_sech_mp(s, R, w_1)) < mpmath.mpf(10) ** -28
    s, R, w_1 = float(s), float(R), float(w_1)
    assert abs(G_1(s, R, w_1) - float(G)) < 1e-13
    assert abs(w_1 * G_1(s, R, w_1) - exchange_sech(s, R, w_1)) < 1e-13
    assert abs((1 - w_1) * G_2(s, R, w_1) - exchange_sech(s, R, w_1)) < 1e-13


def test_values_behind_the_critical_temperature():
    slope = (F(1e-5, 3, 0.8) - F(-1e-5, 3, 0.8)) / 2e-5
    assert G_1(-1, 3, 0.5) == pytest.approx(0.00207553986995176, abs=1e-15)
    assert slope == pytest.approx(2.23788120970, abs=1e-8)


@pytest.mark.parametrize("R", [6.0, 8.0])
def test_exchange_at_large_radius(R):
    delta = 2 * R**2
    leading = math.sqrt(math.pi / delta) / 2 * math.exp(-delta / 4)
    assert exchange_sech(-1, R, 0.5) / 0.5 == pytest.approx(leading, rel=4 / R**2)


def test_two_quadratures_agree_at_thirty_digits():
    with mpmath.workdps(40):
        panels = F_mp(*F_REFERENCE)
        step = mpmath.mpf(1) / 60
        shift = mpmath.mpf("0.9") + mpmath.log(4) / 2
        nodes = (k * step for k in range(-840, 841))
        trapezoid = mpmath.fsum(mpmath.tanh(shift + 3 * z) * mpmath.npdf(z) * step for z in nodes)
        assert abs(panels - trapezoid) < mpmath.mpf(10) ** -28


CASES = [
    (dimension, R, beta, w_star, w_1)
    for dimension, betas in ((2, (1.0, 0.6, 0.05, 0.003)), (3, (1.0, 0.2)))
    for R in (1.0, 2.0, 3.0)
    for beta, w_star, w_1 in zip(betas, (0.8, 0.55, 0.7, 0.8), (0.5, 0.31, 0.77, 0.42), strict=False)
]


@pytest.mark.parametrize(("dimension", "R", "beta", "w_star", "w_1"), CASES)
def test_drifts_agree_with_the_grid(dimension, R, beta, w_star, w_1):
    generator = np.random.default_rng([dimension, int(R), int(1000 * beta)])
    direction, first, second = unit_vectors(generator, 3, dimension)
    proposal = Mixture(R * np.array([first, second]), [w_1, 1 - w_1], [1.0, 1.0])
    target = Mixture(R * np.array([direction, -direction]), [w_star, 1 - w_star], [1.0, 1.0])
    tolerance = 1e-10
    dM, dQ = overlap_velocity(proposal, target, beta, tolerance=tolerance)

    state = (first @ direction, second @ direction, first @ second, beta, R, w_star, w_1)
    from_grid = np.array([dM[0, 0], dM[1, 0], dQ[0, 1]]) / R**2
    retyped = np.array([dm_1(*state), dm_2(*state), ds(*state)])
    # The length of a velocity is wrong by at most sqrt(d) times the tolerance, and the rate of an overlap of unit
    # vectors by at most twice that, divided by R.
    assert np.max(np.abs(from_grid - retyped)) < 2 * math.sqrt(dimension) * tolerance / R + 1e-13
    np.testing.assert_allclose(dM[:, 1], -dM[:, 0], atol=1e-12)
    np.testing.assert_allclose(np.diag(dQ), 0, atol=1e-12)


def test_the_comparison_sees_a_wrong_sign():
    generator = np.random.default_rng(5)
    direction, first, second = unit_vectors(generator, 3, 2)
    m_1, m_2, s = first @ direction, second @ direction, first @ second
    target = Mixture(np.array([direction, -direction]), [0.7, 0.3], [1.0, 1.0])
    dM, _ = overlap_velocity(Mixture(np.array([first, second]), [0.4, 0.6], [1.0, 1.0]), target, 0.5)
    wrong = 0.4 * (0.5 * F(m_1, 1, 0.7) * (1 - m_1**2) + G_1(s, 1, 0.4) * (m_2 - s * m_1))
    assert abs(dM[0, 0] - wrong) > 1e-3
    assert abs(dM[0, 0] - dm_1(m_1, m_2, s, 0.5, 1, 0.7, 0.4)) < 1e-9
