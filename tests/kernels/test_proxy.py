"""Chebyshev proxies: their error, their degree by tolerance and smoothness, and the tables of a system."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from handtyped import COSINES, STATES, VALUES, R, bimodal_system, z
from numpy.polynomial import chebyshev
from retyped import F_mp, exchange_sech_mp

from derive.objects.expectation import Expectation
from derive.objects.system import OdeSystem
from kernels.averages.proxy import fit
from kernels.averages.quadrature import averages, normal_rule, pole_distance
from kernels.averages.tables import build_tables
from kernels.generate.templates import clenshaw as clenshaw_source
from kernels.lower.analysis import analyse_averages


def tables_of(system, values, proxies=True):
    return build_tables(analyse_averages(system), values, 1e-12, proxies)


def force(radius):
    rule = normal_rule(pole_distance(radius), 1e-14)
    return lambda m: averages(lambda z, m: np.tanh(radius**2 * m + np.log(2) + radius * z), rule, (m,))


@pytest.mark.parametrize("radius", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_proxy_keeps_its_measured_error_at_random_points(radius, tolerance):
    function = force(radius)
    proxy = fit(function, -1.0, 1.0, tolerance)
    points = np.random.default_rng(1).uniform(-1, 1, 3000)
    seen = np.abs(proxy(points) - function(points)).max()
    assert proxy.error <= tolerance
    assert seen <= 1.2 * proxy.error + 1e-14
    shorter = type(proxy)(proxy.coefficients[:-3], -1.0, 1.0, 0.0)
    assert np.abs(shorter(points) - function(points)).max() > tolerance / 4


def test_degree_follows_tolerance_and_radius():
    degrees = [
        [len(fit(force(radius), -1.0, 1.0, tol).coefficients) for tol in (1e-4, 1e-8, 1e-12)]
        for radius in (1.0, 3.0, 6.0)
    ]
    assert np.all(np.diff(degrees, axis=0) > 0)
    assert np.all(np.diff(degrees, axis=1) > 0)


def test_repulsion_has_a_proxy_at_every_radius_of_a_sweep():
    """The series of the repulsion decays most slowly at w_1 = 1/2.

    There s = 1 is a singular point of E sech, which is smooth, but not analytic.
    """
    sizes = []
    for radius in (1.0, 3.0, 6.0, 10.0, 15.0):
        measured = tables_of(bimodal_system(), {**VALUES, R: radius}).measured_errors[1]
        assert measured.method == "Chebyshev proxy", radius
        assert measured.error <= 1e-12
        sizes.append(measured.size)
    assert sizes == sorted(sizes)


def test_what_is_not_smooth_has_no_proxy():
    assert fit(lambda x: np.abs(x - 0.1), -1.0, 1.0, 1e-9) is None


def test_a_feature_between_the_first_nodes_is_found():
    """Seventeen nodes miss a spike of width 0.01; the points at which the error is measured do not."""
    spike = lambda x: np.exp(-(((x - 0.145) / 0.03) ** 2))  # noqa: E731
    proxy = fit(spike, -1.0, 1.0, 1e-8)
    points = np.linspace(-1, 1, 5001)
    assert np.abs(proxy(points) - spike(points)).max() <= 2e-8


def recurrence(table, start, count, low, high, x, monkeypatch):
    """The kernel's sum at one point, by the kernel's source run as plain Python."""
    monkeypatch.setattr(clenshaw_source, "LANES", 1)
    mean = np.full(1, np.nan)
    clenshaw_source.clenshaw(table, start, count, low, high, np.array([x]), mean, np.full(3, np.nan))
    return mean[0]


def test_kernel_recurrence_is_the_chebyshev_sum(monkeypatch):
    rng = np.random.default_rng(3)
    coefficients = rng.normal(size=41)
    table = np.concatenate([np.full(5, np.nan), coefficients, [np.nan]])
    for x in rng.uniform(2.0, 7.0, 20):
        expected = chebyshev.chebval((2 * x - 9.0) / 5.0, coefficients)
        assert recurrence(table, 5, 41, 2.0, 7.0, x, monkeypatch) == pytest.approx(expected, abs=1e-12)


def test_measured_errors_hold_against_thirty_digits(monkeypatch):
    system = bimodal_system()
    tables = tables_of(system, VALUES)
    assert [c.method for c in tables.measured_errors] == ["Chebyshev proxy", "Chebyshev proxy"]
    assert all(0 < c.error <= 2e-12 for c in tables.measured_errors)

    def tabulated(n, x):
        (start, count), (low, high) = tables.layout[n], tables.ranges[n]
        return recurrence(tables.values, start, count, low, high, x, monkeypatch)

    for x in ("-1", "-0.613", "0.0", "0.07", "0.999", "1"):
        assert abs(tabulated(0, float(x)) - float(F_mp(x, "3", "0.8"))) <= tables.measured_errors[0].error + 1e-15
        factor = 0.25 * np.exp(-9 * (1 - float(x)) / 4)
        exchange = float(exchange_sech_mp(x, "3", "0.5"))
        assert abs(factor * tabulated(1, float(x)) - exchange) <= factor * tables.measured_errors[1].error + 1e-15


def test_quadrature_is_used_where_asked_or_where_a_state_is_unbounded():
    system = bimodal_system()
    asked = tables_of(system, VALUES, False)
    assert {c.method for c in asked.measured_errors} == {"trapezoidal rule"}
    unbounded = replace(system, variables=tuple(replace(v, interval=(-sp.oo, sp.oo)) for v in system.variables))
    assert {c.method for c in tables_of(unbounded, VALUES).measured_errors} == {"trapezoidal rule"}


def test_an_integrand_whose_poles_are_not_known_is_refused_rather_than_wrong():
    """The size of the rule does not take the poles of a steep logistic written with exp into account.

    The measured error reveals them.
    """
    m_1 = STATES[0]
    system = bimodal_system()
    steep = Expectation(1 / (1 + sp.exp(30 * R * (m_1 + z))), z)
    symbol = sp.Symbol("steep", real=True)
    wrong = OdeSystem(
        "steep", COSINES, system.parameters, ((symbol, steep),), (symbol, sp.S.Zero, sp.S.Zero), system.gram
    )
    for proxies in (False, True):
        with pytest.raises(ArithmeticError, match="misses the tolerance"):
            tables_of(wrong, VALUES, proxies)


def test_steep_averages_are_tabulated_in_little_memory():
    """A fit has twenty thousand nodes at each of two thousand points; one array for all of them would need 340 MB."""
    tracemalloc.start()
    try:
        tables = tables_of(bimodal_system(), {**VALUES, R: 500.0})
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()
    assert tables.measured_errors[0].size > 10_000
