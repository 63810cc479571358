"""The adaptive integrator: its order, its error against SciPy, jumps of the schedule, and states that it refuses."""

import dataclasses
import json
import os
import subprocess
import sys
from itertools import pairwise

import numba
import numpy as np
import pytest
from handtyped import (
    STATES,
    T0,
    VALUES,
    bimodal_system,
    escaping_system,
    exponential_beta,
    hold_beta,
    states_of_unit_vectors,
    t0,
)
from places import ROOT
from scipy.integrate import solve_ivp

from derive.problem.specification import SCHEDULE_KINDS
from kernels.generate.printer import ScalarPrinter
from kernels.generate.tableau import dop853, tableau_constants
from kernels.generate.templates import integrator as integrator_source
from kernels.integrate.errors import DomainError, IntegrationError, StoppedError, TooManyStepsError
from kernels.integrate.kernel import compile_system
from kernels.machine.threads import at_most

EXPONENTIAL = {T0: 30.0, t0: 288.0}
HOLD = {T0: 25.0, t0: 7.3}
Z = np.linspace(-9.0, 9.0, 401)
GAUSSIAN = np.exp(-(Z**2) / 2) * (Z[1] - Z[0]) / np.sqrt(2 * np.pi)


def numpy_rates(y, beta, R=3.0, w_star=0.8):
    """The page's equations for w_1 = 1/2 with the logistic form of G, typed as a user would type them."""
    m_1, m_2, s = y
    gap = max(1 - s, 0.0)
    F_1, F_2 = (GAUSSIAN @ np.tanh(R**2 * m + np.log(w_star / (1 - w_star)) / 2 + R * Z) for m in (m_1, m_2))
    G = GAUSSIAN @ (0.5 * (1 - np.tanh((R**2 * gap + np.sqrt(2 * R**2 * gap) * Z) / 2)))
    return 0.5 * np.array(
        [
            beta * F_1 * (1 - m_1**2) - G * (m_2 - s * m_1),
            beta * F_2 * (1 - m_2**2) - G * (m_1 - s * m_2),
            beta * F_1 * (m_2 - s * m_1) + beta * F_2 * (m_1 - s * m_2) - 2 * G * (1 - s**2),
        ]
    )


def scipy_path(y, legs):
    """The states at the end of each leg (start, end, beta(t)), by SciPy, accurate to 1e-12."""
    reached = []
    for start, end, beta in legs:
        y = solve_ivp(lambda t, y, b=beta: numpy_rates(y, b(t)), (start, end), y, "DOP853", rtol=1e-12, atol=1e-13).y[
            :, -1
        ]
        reached.append(y)
    return np.array(reached)


@pytest.fixture(scope="module")
def kernel():
    return compile_system(bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **EXPONENTIAL}, device="cpu")


@pytest.fixture(scope="module")
def hold():
    return compile_system(bimodal_system(), hold_beta(), (T0, t0), {**VALUES, **HOLD}, breakpoints=(t0,), device="cpu")


@pytest.fixture(scope="module")
def escaping():
    values = {"a": 0.1, "b": 0.1, "c": 1.0, T0: 1.0, t0: 1.0}
    return compile_system(escaping_system(), exponential_beta(), (T0, t0), values, device="cpu")


@pytest.mark.quick
def test_order_is_eight(kernel):
    """From 12 steps on the error is asymptotic, and up to 24 steps it is far above the error of the reference.

    A run of 1000 fixed steps shows the error of the reference.
    """
    cold = kernel.with_parameters({T0: 1.0})
    states = states_of_unit_vectors(8, 4, 3)
    counts = np.array([12, 16, 20, 24])
    reference = cold.integrate(states, [0.0, 8.0], rtol=1e-13, atol=1e-15).y[:, -1]
    errors = [np.abs(cold.integrate(states, [0.0, 8.0], fixed_steps=int(n)).y[:, -1] - reference).max() for n in counts]
    rounding = np.abs(cold.integrate(states, [0.0, 8.0], fixed_steps=1000).y[:, -1] - reference).max()
    assert errors[-1] > 20 * rounding
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(8, abs=0.3)


@pytest.mark.quick
def test_fixed_steps_are_counted(kernel):
    run = kernel.integrate(states_of_unit_vectors(3, 4, 4), [0.0, 1.0, 5.0], fixed_steps=7)
    assert run.steps.tolist() == [14, 14, 14]


@pytest.mark.quick
def test_adaptive_paths_against_scipy(kernel):
    states = states_of_unit_vectors(6, 8, 5)
    beta = lambda t: 1 / (1 + 29 * np.exp(-t / 288))  # noqa: E731
    times = [0.0, 3.0, 60.0, 180.0]
    expected = np.array([scipy_path(y, [(a, b, beta) for a, b in pairwise(times)]) for y in states])
    run = kernel.integrate(states, times, rtol=1e-11, atol=1e-13)
    assert run.y.shape == (6, 4, 3)
    np.testing.assert_array_equal(run.y[:, 0], states)
    np.testing.assert_allclose(run.y[:, 1:], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(run.beta, beta(np.array(times)), rtol=1e-14)
    assert run.device.startswith("cpu")
    assert "DOP853" in run.method


def test_error_follows_the_tolerance(kernel):
    states = states_of_unit_vectors(40, 16, 6)
    reference = kernel.integrate(states, [0.0, 60.0], rtol=1e-13, atol=1e-15).y
    runs = [kernel.integrate(states, [0.0, 60.0], rtol=r, atol=r / 100).y for r in (1e-5, 1e-7, 1e-9)]
    medians = [np.median(np.abs(y - reference).max(axis=(1, 2))) for y in runs]
    assert medians[0] / medians[2] > 1e3
    assert medians[2] < 1e-9


def test_a_jump_of_the_schedule_is_landed_on_from_the_left(hold):
    """The run agrees with SciPy's two legs of constant beta before the jump, at the jump and after it."""
    states = states_of_unit_vectors(4, 6, 7)
    times = [0.0, 5.0, 7.3, 30.0]
    legs = [(0.0, 5.0, lambda t: 1 / 25), (5.0, 7.3, lambda t: 1 / 25), (7.3, 30.0, lambda t: 1.0)]
    expected = np.array([scipy_path(y, legs) for y in states])
    for outputs in (times, [0.0, 30.0]):
        run = hold.integrate(states, outputs, rtol=1e-11, atol=1e-13)
        wanted = expected if len(outputs) == 4 else expected[:, [-1]]
        np.testing.assert_allclose(run.y[:, 1:], wanted, rtol=0, atol=1e-9)
    assert hold.integrate(states, times).beta.tolist() == [1 / 25, 1 / 25, 1.0, 1.0]


def test_a_jump_that_is_not_declared_costs_accuracy_or_steps(hold):
    """Without a breakpoint the same run needs more steps around the jump, which is why breakpoints exist."""
    blind = dataclasses.replace(hold, breakpoints=())
    states = states_of_unit_vectors(4, 6, 7)
    assert np.all(blind.integrate(states, [0.0, 30.0]).steps > hold.integrate(states, [0.0, 30.0]).steps)


def test_breakpoints_follow_their_parameters(hold):
    later = hold.with_parameters({t0: 12.0})
    assert later.breakpoints == (12.0,)
    assert later.module is hold.module
    assert later.tables is hold.tables
    y = states_of_unit_vectors(1, 6, 8)
    expected = scipy_path(y[0], [(0.0, 12.0, lambda t: 1 / 25), (12.0, 20.0, lambda t: 1.0)])[-1]
    np.testing.assert_allclose(
        later.integrate(y, [0.0, 20.0], rtol=1e-11, atol=1e-13).y[0, -1], expected, rtol=0, atol=1e-9
    )


def test_more_output_times_change_the_end_within_the_tolerance(kernel):
    states = states_of_unit_vectors(5, 16, 9)
    few = kernel.integrate(states, [0.0, 180.0]).y[:, -1]
    many = kernel.integrate(states, np.linspace(0.0, 180.0, 301)).y[:, -1]
    np.testing.assert_allclose(many, few, rtol=0, atol=1e-7)


def test_trajectories_do_not_depend_on_threads_batch_or_order(kernel):
    states = states_of_unit_vectors(33, 16, 10)
    every = kernel.integrate(states, [0.0, 40.0]).y
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(kernel.integrate(states, [0.0, 40.0]).y, every)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(kernel.integrate(states[::-1], [0.0, 40.0]).y[::-1], every)
    np.testing.assert_array_equal(kernel.integrate(states[7], [0.0, 40.0]).y[0], every[7])


def test_fixed_points_at_the_edge_of_the_domain_are_inside(kernel):
    """Coincident or antipodal vectors have a singular Gram matrix, and are valid states."""
    edge = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [0.5, -0.5, -1.0]])
    run = kernel.integrate(edge, [0.0, 50.0])
    assert np.abs(run.y).max() <= 1 + 1e-9


def test_empty_batch_and_single_time(kernel):
    assert kernel.integrate(np.empty((0, 3)), [0.0, 1.0]).y.shape == (0, 2, 3)
    states = states_of_unit_vectors(2, 4, 11)
    np.testing.assert_array_equal(kernel.integrate(states, [2.0]).y[:, 0], states)


def test_leaving_the_gram_matrix_is_an_error_with_its_place(escaping):
    """m_1 and m_2 grow together while s = -0.9. No vectors do that, although every overlap stays within [-1, 1]."""
    inside, leaving = [0.0, -0.1, 0.0], [0.1, 0.1, -0.9]
    with pytest.raises(DomainError, match=r"trajectory 1 .*t = .*Gram") as error:
        escaping.integrate([inside, leaving], [0.0, 5.0])
    assert error.value.trajectory == 1
    # The Gram matrix is positive only for (m_1 + m_2)^2 <= 2 (1 + s), so for m <= sqrt(0.05), which the path reaches
    # after 1.236 units of time.
    assert error.value.time >= 1.23
    assert error.value.state[0] == pytest.approx(0.1 + 0.1 * error.value.time)
    assert error.value.state[0] > 0.2236


def test_leaving_an_interval_is_an_error(escaping):
    moved = escaping.with_parameters({"a": 1.0, "b": 0.0})
    with pytest.raises(DomainError, match="interval"):
        moved.integrate([[0.9, 0.0, 0.0]], [0.0, 0.5, 3.0])


def test_a_start_outside_is_an_error_at_the_start(kernel):
    with pytest.raises(DomainError, match="t = 1") as error:
        kernel.integrate([[0.9, 0.9, -0.9]], [1.0, 2.0])
    np.testing.assert_array_equal(error.value.state, [0.9, 0.9, -0.9])


def test_a_wrong_equation_leaves_the_domain():
    """The check of the domain finds a wrong sign of the exchange term in the overlaps with the target."""
    right = bimodal_system()
    (exchange,) = (symbol for symbol, _ in right.subexpressions if symbol.name == "g")
    wrong = dataclasses.replace(right, rhs=(*(rate.subs(exchange, -exchange) for rate in right.rhs[:2]), right.rhs[2]))
    kernel = compile_system(wrong, exponential_beta(), (T0, t0), {**VALUES, **EXPONENTIAL}, device="cpu")
    with pytest.raises(DomainError):
        kernel.integrate(states_of_unit_vectors(20, 4, 14), [0.0, 180.0])


def test_domain_tolerance_is_what_it_says(kernel):
    """The integrator accepts a state outside the domain if the tolerance covers the excess, and only then."""
    excess = 1e-6
    start = [[0.0, 0.0, 1.0 + excess]]
    kernel.integrate(start, [0.0], domain_tolerance=2 * excess)
    with pytest.raises(DomainError):
        kernel.integrate(start, [0.0], domain_tolerance=excess / 10)


def test_rates_without_a_value_are_an_error(escaping):
    undefined = escaping.with_parameters({"c": -1.0})
    for options in ({}, {"fixed_steps": 4}):
        with pytest.raises(IntegrationError, match="not finite") as error:
            undefined.integrate([[0.0, 0.0, 0.0]], [0.0, 1.0], **options)
        assert not isinstance(error.value, DomainError)


def test_a_path_that_ends_in_finite_time_stops_with_too_small_a_step(monkeypatch):
    """dy/dt = y² from y = 1 diverges at t = 1. The integrator's source runs as plain Python here."""

    def rates(system, betas, y, p, tables, layout, ranges, dy, means, scratch, flag):
        dy[0] = y[0] * y[0]

    def gram(system, y, p, matrix):
        matrix[0] = 1.0
        return 1

    names = {
        "rates": rates,
        "gram": gram,
        "set_betas": lambda system, betas, p: betas.fill(1.0),
        "real": float,
        "LANES": 1,
    }
    names["halted"] = lambda flag: False
    tables = {"np": np}
    exec(tableau_constants(dop853(), ScalarPrinter()), tables)
    names |= {name: tables[name] for name in ("STAGES", "FRACTIONS", "COEFFICIENTS", "ERRORS")}
    for name, value in names.items():
        monkeypatch.setattr(integrator_source, name, value)
    nothing, out, reached, status = np.zeros((0, 2)), np.empty((1, 2, 1)), np.empty((1, 2)), np.empty(1, int)
    times, kept, limits = np.array([0.0, 2.0]), np.array([1, 1]), np.array([[-np.inf, np.inf]])
    control = integrator_source.Control(1e-9, 1e-11, fixed_steps=0, most_steps=1e6, domain_tolerance=1e-6)
    path = integrator_source.Path(
        times,
        times,
        kept,
        p=nothing,
        tables=nothing,
        layout=nothing,
        ranges=nothing,
        limits=limits,
        traps=np.empty((0, 5)),
        control=control,
    )
    clock, place = np.empty(integrator_source.CLOCK_ROWS), np.empty(integrator_source.PLACE_ROWS, int)
    of_one = {name: np.empty(1) for name in ("y", "trial", "betas", "means", "matrix", "scratch")}
    flag = np.zeros(1, np.int64)
    group = integrator_source.Group(**of_one, K=np.empty(13), clock=clock, place=place, flag=flag, system=None)
    with np.errstate(all="ignore"):
        integrator_source.integrate_some(0, 1, np.array([[1.0]]), path, group, out, reached, status)
    assert status[0] == integrator_source.STEP_TOO_SMALL
    assert reached[0, 1] == pytest.approx(1.0, abs=1e-8)


def test_too_many_steps_are_an_error(kernel):
    with pytest.raises(IntegrationError, match="too many steps"):
        kernel.integrate(states_of_unit_vectors(2, 4, 12), [0.0, 180.0], most_steps=3)


@pytest.mark.parametrize(
    ("states", "times", "options"),
    [
        ([[0.0, 0.0]], [0.0, 1.0], {}),
        ([[0.0, 0.0, np.nan]], [0.0, 1.0], {}),
        ([[0.0, 0.0, 0.0]], [1.0, 0.0], {}),
        ([[0.0, 0.0, 0.0]], [-1.0, 0.0], {}),
        ([[0.0, 0.0, 0.0]], [], {}),
        ([[0.0, 0.0, 0.0]], [0.0, np.inf], {}),
        ([[0.0, 0.0, 0.0]], [0.0, 1.0], {"rtol": 1e-16}),
        ([[0.0, 0.0, 0.0]], [0.0, 1.0], {"atol": 0.0}),
        ([[0.0, 0.0, 0.0]], [0.0, 1.0], {"fixed_steps": -1}),
    ],
)
def test_bad_requests_are_refused(kernel, states, times, options):
    with pytest.raises(ValueError, match=r"states|times|rtol"):
        kernel.integrate(states, times, **options)


def test_single_precision_follows_double_precision(kernel):
    single = compile_system(
        bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **EXPONENTIAL}, device="cpu", precision="float32"
    )
    states = states_of_unit_vectors(20, 6, 13)
    run = single.integrate(states, [0.0, 20.0], rtol=1e-5, atol=1e-6)
    assert run.y.dtype == np.float32
    np.testing.assert_allclose(run.y, kernel.integrate(states, [0.0, 20.0]).y, rtol=0, atol=5e-4)
    with pytest.raises(ValueError, match="float32"):
        single.integrate(states, [0.0, 20.0])


def test_a_tableau_with_a_wrong_coefficient_is_refused():
    good = dop853()
    for name, place in (("B", (3,)), ("C", (4,)), ("A", (7, 3)), ("E5", (2,))):
        wrong = getattr(good, name).copy()
        wrong[place] += 1e-6
        with pytest.raises(ValueError, match="order conditions"):
            dataclasses.replace(good, **{name: wrong})


def test_states_are_the_declared_ones(kernel):
    assert kernel.system.states == STATES


@pytest.mark.parametrize("rtol", [1e-9, 1e-12])
def test_starts_in_the_plane_stay_in_the_domain_for_long(kernel, rtol):
    """Three unit vectors of a plane have a singular Gram matrix at all times.

    Here two vectors are 0.003 apart, and the flow drives them and their errors apart. The tolerance for well separated
    starts, 1000 rtol, is not enough for them.
    """
    hot = kernel.with_parameters({T0: 50.0, t0: 1e6})
    angle = np.linspace(0.0, 2 * np.pi, 200, endpoint=False)
    states = np.stack([np.cos(angle), np.cos(angle + 0.003), np.full(200, np.cos(0.003))], axis=1)
    run = hot.integrate(states, [0.0, 100.0, 3000.0], rtol=rtol, atol=rtol / 100)
    with pytest.raises(DomainError):
        hot.integrate(states, [0.0, 100.0, 3000.0], rtol=rtol, atol=rtol / 100, domain_tolerance=max(1e-9, 1000 * rtol))
    assert np.abs(run.y).max() <= 1 + 1e-3
    determinant = 1 + 2 * run.y[..., 0] * run.y[..., 1] * run.y[..., 2] - (run.y**2).sum(axis=-1)
    assert (
        determinant.min() >= -1e-2
    )  # an eigenvalue -1e-3 times the trace 3, times two others that sum to 3 and have a product of at most 9/4


def test_the_default_allowance_is_a_thousand_local_errors_unless_a_pair_nearly_coincides(kernel):
    apart, close = np.array([[0.1, -0.2, 0.3]]), np.array([[0.1, 0.1, 1 - 5e-7]])
    assert kernel.domain_tolerance(apart, 1e-9) == pytest.approx(1e-6)
    assert kernel.domain_tolerance(close, 1e-11) == pytest.approx(1e-4, rel=1e-5)
    assert kernel.domain_tolerance(close, 1e-9) == 1e-3


EVERY_SCHEDULE = """
import json, warnings, numpy as np
warnings.simplefilter("ignore")
from annealvi.session.session import open_session
from derive.problem.specification import SCHEDULE_KINDS, Problem, ScheduleSpec
specs = [ScheduleSpec(kind, 20.0, 3.0) for kind in SCHEDULE_KINDS if kind not in ("table", "expression")]
specs.append(ScheduleSpec("table", points=((0.0, 20.0), (2.0, 5.0), (3.0, 1.0))))
specs.append(ScheduleSpec("expression", 20.0, 3.0, expression="1 + T0*exp(-t/t0)"))
found = {}
for spec in specs:
    session = open_session(Problem(schedule=spec))
    start = np.array([[0.3, -0.2, 0.1]])
    run = session.compile("cpu", tolerance=1e-9).integrate(start, [0.0, 2.5, 5.0], rtol=1e-8, atol=1e-10)
    found[spec.kind] = [run.y[0].tolist(), run.beta.tolist()]
print(json.dumps(found))
"""


def test_every_kind_of_schedule_integrates(tmp_path):
    """The generated source, run as plain Python, agrees with SciPy on each leg between two kinks.

    SciPy uses retyped formulas of the schedules.
    """
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT), "ANNEALVI_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", EVERY_SCHEDULE]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    temperatures = {
        "constant": lambda t: 20.0,
        "exponential": lambda t: 1 + 19 * np.exp(-t / 3),
        "geometric": lambda t: 20 ** (1 - t / 3),
        "linear": lambda t: 1 + 19 * (1 - t / 3),
        "beta-exponential": lambda t: 1 / (1 - 0.95 * np.exp(-t / 3)),
        "beta-linear": lambda t: 1 / (0.05 + 0.95 * t / 3),
        "cosine": lambda t: 1 + 9.5 * (1 + np.cos(np.pi * t / 3)),
        "hold": lambda t: 20.0,
        "table": lambda t: 20 * (5 / 20) ** (t / 2) if t < 2 else 5 ** (3 - t),
        "expression": lambda t: 1 + 20 * np.exp(-t / 3),
    }
    assert set(found) == set(SCHEDULE_KINDS) == set(temperatures)
    endless = {"constant", "exponential", "beta-exponential", "expression"}
    for kind, T in temperatures.items():
        beta = lambda t, T=T: 1 / T(t)  # noqa: E731
        cold = beta if kind in endless else lambda t: 1.0
        legs = [(0.0, 2.0, beta), (2.0, 2.5, beta), (2.5, 3.0, beta), (3.0, 5.0, cold)]
        expected = scipy_path([0.3, -0.2, 0.1], legs)[[1, 3]]
        y, betas = found[kind]
        # About thirty steps with errors of 1e-8 each, and ten averages with errors of 1e-9 over a time of 5.
        np.testing.assert_allclose(y[1:], expected, rtol=0, atol=1e-6, err_msg=kind)
        np.testing.assert_allclose(betas, [beta(0.0), beta(2.5), cold(5.0)], rtol=1e-12, err_msg=kind)


def test_a_time_limit_stops_a_path_at_the_end_of_a_step(kernel):
    """The path stops at a state of the path without a limit, to the last bit.

    So the integrator does not accept a step whose rates were incomplete.
    """
    path = {"initial": states_of_unit_vectors(1, 4, 1), "times": [0.0, 1e4], "fixed_steps": 10**8}
    with pytest.raises(StoppedError, match="stopped at t = ") as stopped, at_most(0.5):
        kernel.integrate(**path, most_steps=10**9)
    assert stopped.value.steps > 0
    assert stopped.value.step == 1e-4
    with pytest.raises(TooManyStepsError) as same:
        kernel.integrate(**path, most_steps=stopped.value.steps)
    assert stopped.value.time == same.value.time
    np.testing.assert_array_equal(stopped.value.state, same.value.state)
