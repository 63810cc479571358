"""RKC, the second method of stabilised kernels: its coefficients, and runs compared with closed forms and with DOP853.

DOP853 takes over at tolerances just below LEAST_RTOL, so one kernel shows both methods at nearly the same tolerance.
"""

import numba
import numpy as np
import pytest
import sympy as sp
from cuda_without_gpu import in_simulator, needs_compiler
from handtyped import COSINES, GRAM
from hopper_kernels import assembled, integrator_kernels, ptx_of

import annealvi
from annealvi.collapse.ensemble import compiled_for_ensembles
from annealvi.collapse.outcome import judging
from derive.objects.system import BETA, TIME, OdeSystem
from kernels.generate.chebyshev import longest_stable_step, stage_rows
from kernels.generate.codegen import generate
from kernels.generate.templates.chebyshev import LEAST_RTOL
from kernels.integrate.domain import widest_tolerance
from kernels.integrate.errors import DomainError, TooManyStepsError
from kernels.integrate.kernel import compile_system
from kernels.lower.analysis import analyse_averages

FAST, GROWTH, DECAY = sp.symbols("fast growth decay", real=True)
NUMBERS = {FAST: 5.0, GROWTH: -0.0002, DECAY: 3000.0}
COARSE = {"rtol": 1e-6, "atol": 1e-8}
BY_DOP853 = {"rtol": 0.99 * LEAST_RTOL, "atol": 1e-9}
STARTS = np.array([[0.3, 0.2, 0.1], [-0.4, 0.1, 0.02], [0.0, -0.5, -0.3]])


def relaxing_system():
    """A linear system that is stiff: its first state soon follows beta / 2, its second vanishes, its third is slow."""
    m_1, m_2, s = (v.symbol for v in COSINES)
    rates = (-FAST * (m_1 - BETA / 2), -FAST * m_2 / 3, GROWTH * s)
    return OdeSystem("relaxing", COSINES, (FAST, GROWTH), (), rates, GRAM)


def compiled(device="cpu"):
    beta = sp.exp(-TIME / DECAY)
    return compile_system(relaxing_system(), beta, (DECAY,), NUMBERS, device=device, stabilised=True)


def exact(t, starts):
    """The states (n, times, 3) at the times t."""
    fast, growth, decay = NUMBERS.values()
    share = fast / 2 / (fast - 1 / decay)
    m_1, m_2, s = starts.T[:, :, None]
    first = share * np.exp(-t / decay) + (m_1 - share) * np.exp(-fast * t)
    return np.stack([first, m_2 * np.exp(-fast * t / 3), s * np.exp(growth * t)], axis=2)


def step_by_rows(rate, y, h, stages):
    """One step of dy/dt = rate(t, y) from time 0, as the text combines the rows."""
    rows = stage_rows(stages)
    first, slope = rate(0.0, y), 0.0
    stage = former = y
    for fraction, of_y, of_stage, of_former, of_slope, of_first in rows[1:-1]:
        slope = rate(fraction * h, stage)
        following = of_y * y + of_stage * stage + of_former * former + h * (of_slope * slope + of_first * first)
        stage, former = following, stage
    return stage


@pytest.fixture(scope="module")
def kernel():
    return compiled()


@pytest.fixture(scope="module")
def hot():
    problem = annealvi.load_problem("two-scales", ["schedule.T0=300", "schedule.t0=1152"])
    session = annealvi.open_session(problem)
    return session, compiled_for_ensembles(session, "cpu")


@pytest.mark.quick
@pytest.mark.parametrize("stages", [10, 22, 58])
def test_coefficients_are_of_order_two(stages):
    """Rates 1 and 2t are integrated exactly, and the error of one step of dy/dt = y falls as h³."""
    assert step_by_rows(lambda t, y: 1.0, 0.0, 1.0, stages) == pytest.approx(1.0, abs=1e-12)
    assert step_by_rows(lambda t, y: 2 * t, 0.0, 1.0, stages) == pytest.approx(1.0, abs=1e-12)
    steps = np.array([0.1, 0.05, 0.025])
    errors = [abs(step_by_rows(lambda t, y: y, 1.0, h, stages) - np.exp(h)) for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(3, abs=0.1)


@pytest.mark.quick
@pytest.mark.parametrize("stages", [10, 22, 58])
def test_steps_are_stable_up_to_the_longest_and_no_further(stages):
    longest = longest_stable_step(stages)
    assert longest == pytest.approx(0.65 * stages**2, rel=0.03)
    z = np.linspace(0.02, 1, 2000) * longest
    assert np.abs(step_by_rows(lambda t, y: -z * y, np.ones(len(z)), 1.0, stages)).max() < 1
    assert abs(step_by_rows(lambda t, y: -1.05 * longest * y, 1.0, 1.0, stages)) > 1


def test_a_stiff_linear_flow_is_that_of_its_closed_form(kernel):
    """The flow brings trajectories together, so errors are at most the sum of the steps' errors."""
    times = np.array([0.0, 1.0, 50.0, 700.0, 2000.0])
    run = kernel.integrate(STARTS, times, **COARSE)
    bound = run.steps.max() * (COARSE["rtol"] + COARSE["atol"])
    np.testing.assert_allclose(run.y, exact(times, STARTS), rtol=0, atol=bound)
    assert "DOP853" in run.method
    assert "RKC" in run.method


def test_it_acts_at_coarse_tolerances_only(kernel):
    """Stability alone demands 2000 · 5 / 7 steps of DOP853, or a few more."""
    runs = [kernel.integrate(STARTS, [0.0, 2000.0], **o) for o in (COARSE, BY_DOP853, {"rtol": 1e-9, "atol": 1e-11})]
    assert (runs[0].steps < runs[1].steps / 5).all()
    assert (runs[1].steps > 1000).all()
    assert [("RKC" in run.method) for run in runs] == [True, False, False]
    equal = kernel.integrate(STARTS[:1], [0.0, 1.0], fixed_steps=20)
    assert equal.steps.tolist() == [20]
    assert "RKC" not in equal.method
    np.testing.assert_allclose(equal.y, exact(np.array([0.0, 1.0]), STARTS[:1]), rtol=0, atol=1e-7)


def test_failures_are_those_of_dop853(kernel):
    """The third state grows until no vectors have such overlaps, soon after t = 380, where s² = 1 - m_1²."""
    growing = kernel.with_parameters({GROWTH: 0.01})
    for options in (COARSE, BY_DOP853):
        with pytest.raises(DomainError) as caught:
            growing.integrate(STARTS[1], [0.0, 2000.0], **options)
        assert 380 <= caught.value.time <= 400
    with pytest.raises(TooManyStepsError):
        kernel.integrate(STARTS, [0.0, 2000.0], most_steps=20, **COARSE)


def test_it_takes_over_in_hot_phases(hot):
    """The two methods agree within ten tolerances in the middle of trajectories, and on all outcomes."""
    session, kernel = hot
    starts, end = session.random_states(40, 2), session.end_time()
    times, options = np.array([0.0, 0.2, 0.4, 1.0]) * end, {"domain_tolerance": widest_tolerance(1e-6)}
    run = kernel.integrate(starts, times, **COARSE, **options)
    exacter = kernel.integrate(starts, times, rtol=1e-10, atol=1e-12, **options)
    assert run.steps.mean() < exacter.steps.mean() / 5
    assert np.median(np.abs(run.y - exacter.y).max(axis=(1, 2))) < 10 * COARSE["rtol"]
    judge = judging(session)
    np.testing.assert_array_equal(judge(run.y[:, -1]).covered, judge(exacter.y[:, -1]).covered)


def test_a_trajectory_depends_on_no_other(hot):
    """Lanes are in the midst of steps of different lengths and methods, whichever trajectories they have."""
    session, kernel = hot
    starts, times = session.random_states(75, 3), np.array([0.0, 0.1, 1.0]) * session.end_time()
    options = {**COARSE, "domain_tolerance": widest_tolerance(1e-6)}
    whole = kernel.integrate(starts, times, **options)
    order = np.random.default_rng(0).permutation(len(starts))
    shuffled = kernel.integrate(starts[order], times, **options)
    np.testing.assert_array_equal(shuffled.y, whole.y[order])
    np.testing.assert_array_equal(shuffled.steps, whole.steps[order])
    for some in (slice(0, 1), slice(3, 40)):
        np.testing.assert_array_equal(kernel.integrate(starts[some], times, **options).y, whole.y[some])
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        np.testing.assert_array_equal(kernel.integrate(starts, times, **options).y, whole.y)
    finally:
        numba.set_num_threads(threads)


@pytest.mark.quick
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_only_stabilised_code_contains_it(target):
    averages = analyse_averages(relaxing_system())
    plain, more = (generate(averages, sp.S.One, (), {}, target, stabilised=s) for s in (False, True))
    if target == "cpu":
        assert plain.source == more.source
    whole, wider = (p.source if p.integrator is None else p.integrator for p in (plain, more))
    assert "CHEBYSHEV" not in whole
    assert "CHEBYSHEV" in wider
    first = wider.index("MOST_PARTS = ")
    rest = len(whole) - first
    assert wider[:first] + wider[-rest:] == whole


def ends_on(device):
    run = compiled(device).integrate(STARTS, [0.0, 60.0], **COARSE)
    return {"y": run.y.tolist(), "steps": run.steps.tolist(), "device": run.device}


def test_simulated_cuda_agrees_with_the_cpu():
    """To a few tolerances: a rounding may change the number of a step's parts."""
    found, expected = in_simulator("t.ends_on('cuda')", "test_chebyshev"), ends_on("cpu")
    assert found["device"] == "cuda simulator"
    np.testing.assert_allclose(found["y"], expected["y"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(found["steps"], expected["steps"], rtol=0.2, atol=2)


@needs_compiler
@pytest.mark.usefixtures("hopper")
def test_the_kernel_compiles_for_hopper_without_a_gpu():
    averages = analyse_averages(relaxing_system())
    integrate_all, *_ = integrator_kernels("stabilised", averages, sp.S.One, (), {}, stabilised=True)
    found = assembled(ptx_of(integrate_all))
    assert found.spilled == 0
