"""Trajectories that advance together in lanes.

A trajectory's result must not depend on its lane, its neighbours, the threads or other sets of parameters.
"""

import math
import platform
import time

import mpmath
import numba
import numpy as np
import pytest
from handtyped import (
    T0,
    VALUES,
    bimodal_system,
    escaping_system,
    exponential_beta,
    hold_beta,
    states_of_unit_vectors,
    t0,
)
from numba import njit

from kernels.generate.codegen import lanes_for
from kernels.integrate.batch import integrate_sets
from kernels.integrate.errors import DomainError
from kernels.integrate.kernel import compile_system
from kernels.machine import vector_math
from kernels.machine.threads import TimeLimitError, at_most

OPTIONS = {"rtol": 1e-7, "atol": 1e-9}


@pytest.fixture(scope="module")
def kernel():
    return compile_system(bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, T0: 30.0, t0: 288.0}, device="cpu")


@pytest.fixture(scope="module")
def jumping():
    """A kernel whose beta jumps at t0; the integrator ends a step there."""
    return compile_system(
        bimodal_system(), hold_beta(), (T0, t0), {**VALUES, T0: 4.0, t0: 5.0}, breakpoints=(t0,), device="cpu"
    )


@pytest.fixture(scope="module")
def starts():
    return states_of_unit_vectors(150, 32, 8)


def test_a_batch_may_come_in_any_order_and_in_pieces(kernel, starts):
    times = [0.0, 7.0, 60.0, 180.0]
    whole = kernel.integrate(starts, times, **OPTIONS)
    order = np.random.default_rng(0).permutation(len(starts))
    shuffled = kernel.integrate(starts[order], times, **OPTIONS)
    np.testing.assert_array_equal(shuffled.y, whole.y[order])
    np.testing.assert_array_equal(shuffled.steps, whole.steps[order])
    for some in (slice(0, 1), slice(3, 40), slice(149, 150)):
        np.testing.assert_array_equal(kernel.integrate(starts[some], times, **OPTIONS).y, whole.y[some])


def test_the_number_of_threads_changes_nothing(kernel, starts):
    many = np.tile(starts, (5, 1))
    before = numba.get_num_threads()
    found = []
    try:
        for threads in {1, before}:
            numba.set_num_threads(threads)
            found.append((kernel.integrate(many, [0.0, 180.0], **OPTIONS).y, kernel.rhs_at_beta(0.3, many)))
    finally:
        numba.set_num_threads(before)
    for y, dy in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_array_equal(dy, found[0][1])


def test_traps_stop_a_trajectory_and_leave_its_neighbours_alone(kernel, starts):
    free = kernel.integrate(starts, [0.0, 180.0], **OPTIONS)
    traps = np.array([[1.0, 1.0, 0.5, 0.0, 0.0]])  # no trap of the flow, but a stop where both overlaps exceed one half
    stopped = kernel.integrate(starts, [0.0, 180.0], traps=traps, **OPTIONS)
    early = stopped.reached < 180.0
    assert 0 < early.sum() < len(starts)
    assert (stopped.y[early, -1, :2] >= 0.5).all()
    np.testing.assert_array_equal(stopped.y[~early], free.y[~early])


def test_several_sets_of_parameters_in_one_launch(jumping, starts):
    """The sets differ in a parameter of the tables and in the time of a jump, which only some of them reach."""
    sets = [jumping.with_parameters(v) for v in ({}, {"R": 2.0}, {"t0": 1.5}, {"t0": 300.0}, {"T0": 9.0})]
    times = [0.0, 3.0, 20.0]
    together = integrate_sets(sets, starts[:20], times, **OPTIONS)
    for kernel, run in zip(sets, together, strict=True):
        alone = kernel.integrate(starts[:20], times, **OPTIONS)
        np.testing.assert_array_equal(run.y, alone.y)
        np.testing.assert_array_equal(run.beta, alone.beta)
    own = [starts[20 * n : 20 * (n + 1)] for n in range(5)]
    ends = np.array([[0.0, 1.0 + n] for n in range(5)])
    for n, run in enumerate(integrate_sets(sets, own, ends, **OPTIONS)):
        np.testing.assert_array_equal(run.y, sets[n].integrate(own[n], ends[n], **OPTIONS).y)


def test_sets_of_another_system_or_another_size_are_refused(jumping, kernel, starts):
    with pytest.raises(ValueError, match="with_parameters"):
        integrate_sets([jumping, kernel], starts, [0.0, 1.0])
    with pytest.raises(ValueError, match="do not fit 2 sets"):
        integrate_sets([jumping, jumping], [starts, starts, starts], [0.0, 1.0])


def test_a_failure_is_that_of_its_own_trajectory():
    """Of a hundred trajectories one escapes, and only its failure is reported."""
    values = {"a": 0.1, "b": 0.1, "c": 1.0, T0: 1.0, t0: 1.0}
    escaping = compile_system(escaping_system(), exponential_beta(), (T0, t0), values, device="cpu")
    states = np.zeros((100, 3))
    states[61] = [0.1, 0.1, -0.9]
    with pytest.raises(DomainError, match=r"^trajectory 61 ") as caught:
        escaping.integrate(states, [0.0, 5.0])
    assert caught.value.trajectory == 61
    with pytest.raises(DomainError, match=r"^set 1: trajectory 61 "):
        integrate_sets([escaping, escaping.with_parameters({})], [0 * states, states], [0.0, 5.0])


def test_shooting_finds_the_same_change_with_one_lane_or_with_all(kernel):
    """Shooting from the middle to (b, −b); the more segments there are, the fewer lanes each segment has."""
    ends = np.array([[0.6, -0.6, 0.0], [0.5, -0.5, 0.0], [0.7, -0.7, 0.0]])
    brackets = []
    for copies in (1, 7, 40):
        high = np.tile(ends, (copies, 1))
        n = len(high)
        found = kernel.shoot(
            np.zeros_like(high),
            high,
            np.full(n, 1 | 8),
            180.0,
            width=np.full(n, 1e-4),
            bracket=np.tile([0.1, 0.4], (n, 1)),
            rtol=1e-8,
        )
        low, high_end = found.bracket.T
        assert ((low > 0) & (low < high_end) & (high_end - low <= 1e-4 * high_end)).all()
        brackets.append(found.bracket[:3])
        np.testing.assert_array_equal(found.bracket, np.tile(found.bracket[:3], (copies, 1)))
    for other in brackets[1:]:
        np.testing.assert_allclose(other.mean(1), brackets[0].mean(1), rtol=2e-4, atol=0)
    b = brackets[0].mean(1) * ends[:, 0]
    np.testing.assert_allclose(b, b[0], rtol=2e-4, atol=0)


def test_shooting_is_stopped_by_a_time_limit(kernel):
    """Without the limit a million segments would take minutes."""
    high = np.tile([0.6, -0.6, 0.0], (10**6, 1))

    def shoot(n):
        places = {"width": np.full(n, 1e-4), "bracket": np.tile([0.1, 0.4], (n, 1))}
        return kernel.shoot(0 * high[:n], high[:n], np.full(n, 1 | 8), 180.0, **places)

    shoot(1)  # compiles
    begun = time.process_time()
    with pytest.raises(TimeLimitError), at_most(0.2):
        shoot(len(high))
    assert time.process_time() - begun < 3


def test_lanes_are_one_where_something_else_fills_the_registers():
    assert lanes_for(3, "cuda", False) == lanes_for(3, "cpu", True) == 1
    assert [lanes_for(n, "cpu", False) for n in (1, 3, 7, 10, 14, 30)] == [32, 32, 32, 16, 16, 8]


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the names of instructions are those of x86-64"
)
def test_the_averages_are_vector_instructions(kernel, starts):
    """Vector instructions are the purpose of the lanes, and a careless index would prevent them."""
    kernel.rhs_at_beta(0.5, starts[:2])
    kernel.integrate(starts[:2], [0.0, 1.0])
    entries = kernel.executable.integrator
    for entry in (entries.integrate_all, kernel.module.own_rates.dispatcher):
        options = {name: value for name, value in entry.targetoptions.items() if name != "nopython"}
        compiled = njit(**options)(entry.py_func)  # code from the cache has no assembly text
        compiled.compile(entry.signatures[0])
        (text,) = compiled.inspect_asm().values()
        packed = sum(
            f"{name}" in text for name in ("mulpd", "addpd", "subpd", "divpd", "sqrtpd", "213pd", "231pd", "132pd")
        )
        assert packed >= 4


@njit
def compiled_values(function, x, out):
    for n in range(x.size):
        out[n] = function(x[n])


def values(function, x):
    out = np.empty(len(x))
    compiled_values(function, np.asarray(x, float), out)
    return out


def test_exponential_is_good_to_two_units_in_the_last_place():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            rng.uniform(-708, 709, 1500),
            rng.uniform(-2, 2, 1500),
            rng.normal(size=200) * 1e-9,
            [0.0, -0.0, -708.0, 709.0],
        ]
    )
    with mpmath.workdps(30):
        exact = [mpmath.exp(mpmath.mpf(float(v))) for v in x]
        errors = [abs(mpmath.mpf(float(v)) / e - 1) for v, e in zip(values(vector_math.exp, x), exact, strict=True)]
    assert max(errors) <= 2 * np.finfo(float).eps
    assert values(vector_math.exp, [0.0])[0] == 1.0


def test_exponential_beyond_its_range():
    found = values(vector_math.exp, [710.0, np.inf, -1000.0, -np.inf, np.nan])
    assert found[:2].tolist() == [np.inf, np.inf]
    assert (found[2:4] >= 0).all()
    assert (found[2:4] < 1e-307).all()
    assert math.isnan(found[4])


def test_logarithm_is_good_to_two_units_in_the_last_place():
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [
            np.exp(rng.uniform(-740, 709, 1500)),
            rng.uniform(0.5, 2, 1500),
            1 + rng.normal(size=200) * 1e-9,
            [5e-324, 1.7e308],
        ]
    )
    with mpmath.workdps(30):
        exact = [mpmath.log(mpmath.mpf(float(v))) for v in x]
        errors = [abs(mpmath.mpf(float(v)) / e - 1) for v, e in zip(values(vector_math.log, x), exact, strict=True)]
    assert max(errors) <= 2 * np.finfo(float).eps
    assert values(vector_math.log, [1.0, 0.0, np.inf]).tolist() == [0.0, -np.inf, np.inf]
    assert np.isnan(values(vector_math.log, [-1.0, np.nan, -np.inf])).all()


def test_hyperbolic_tangent_is_good_to_rounding():
    x = np.concatenate([np.linspace(-30, 30, 2001), [1e-300, -1e-12, np.inf, -np.inf]])
    np.testing.assert_allclose(values(vector_math.tanh, x), np.tanh(x), rtol=0, atol=3e-16)
    assert math.isnan(values(vector_math.tanh, [np.nan])[0])
