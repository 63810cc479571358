"""Every kind of schedule on every target and in both precisions, against its definition, retyped with mpmath.

The bound is a backward one. A target rounds t, the points' times and the parameters to its precision, and rounds each
quotient once or twice. Its result is therefore the exact value at a time and at parameters that differ by a few
roundings, times a few roundings of the exponent. So the result lies between the least and the greatest value of the
definition in that neighbourhood, however steep a ramp is there.
"""

import dataclasses
import math
from bisect import bisect_right
from functools import cache
from itertools import pairwise, product

import jax
import mpmath
import numpy as np
import pytest
import sympy as sp
from cuda_without_gpu import in_simulator
from hypothesis import example, given, settings
from hypothesis import strategies as st

import annealvi
from annealvi.annealing.betas import _PRINTING, _TracedPrinter
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import BETA, TIME, OdeSystem
from derive.problem.double_functions import double_function
from derive.problem.expression_parser import parse_expression
from derive.problem.scaled_form import inverse_without_overflow, without_overflow
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule
from derive.problem.specification import SCHEDULE_KINDS, ScheduleSpec
from kernels.generate.schedule_source import rows_as_parameters
from kernels.integrate.kernel import compile_system

EPS = {"float64": 2.0**-53, "float32": 2.0**-24}
ROUNDINGS = 8
STEEP = (
    (0.0, 300.0),
    (1000.0, 300.0),
    (1001.0, 1.0),
    (1002.0, 7.0),
    (1002.0, 5.0),
    (math.nextafter(1002.0, 2000), 3.0),
    (1007.8, 1.0),
)
UNDERFLOWING = (
    (0.0, 490.0),
    (1.175494351e-38, 1.5),
    (1.1754944911298464e-38, 0.5),
    (586.0, 1.5),
    (631.0, 36.0),
    (889.0, 0.5),
    (889.0, 1.0),
)
COUNT = len(STEEP)

Y = sp.Symbol("m", real=True)
UNBOUNDED = StateVariable(Y, StateKind.MODE_OVERLAP, (0,), (-sp.oo, sp.oo))
DECAY = OdeSystem("decay", (UNBOUNDED,), (), (), (-BETA * Y,), sp.ImmutableMatrix(0, 0, []))
"""dm/dt = −β m, the smallest system that a kernel can hold."""


def log_temperature(points, t, side=1):
    """log T of a table at the exact time t; at a jump, the value from the right or (side −1) from the left."""
    times = [a for a, _ in points]
    k = bisect_right(times, t) - 1 if side > 0 else next(i for i, a in enumerate(times) if a >= t) - 1
    if k + 1 >= len(points):
        return mpmath.log(points[-1][1])
    (start, T), (end, T_end) = points[max(k, 0)], points[max(k, 0) + 1]
    f = (t - mpmath.mpf(start)) / (mpmath.mpf(end) - start)
    return (1 - f) * mpmath.log(T) + f * mpmath.log(T_end)


def between(points, t, precision):
    """The least and the greatest β of a table near t, computed at 30 digits.

    Times below the smallest normal number may count as 0.
    """
    eps = EPS[precision]
    with mpmath.workdps(30):
        shift = ROUNDINGS * mpmath.mpf(eps) * t + float(np.finfo(precision).tiny)
        low, high = max(t - shift, mpmath.mpf(0)), t + shift
        inside = [math.log(T) for a, T in points if low <= a <= high]
        logs = [log_temperature(points, low), log_temperature(points, high), *inside]
        slack = ROUNDINGS * eps * (1 + max(abs(math.log(T)) for _, T in points))
        return math.exp(-max(logs) - slack), math.exp(-min(logs) + slack)


def assert_between(points, times, found, precision):
    for t, beta in zip(times, found, strict=True):
        low, high = between(points, t, precision)
        assert low <= beta <= high, (precision, t, beta, low, high)


@st.composite
def tables(draw):
    """Tables of COUNT points.

    Two times may be equal or one unit in the last place apart; temperatures range from 1e-6 to 1e30.
    """
    steps = st.one_of(st.just("ulp"), st.just("jump"), st.floats(1e-6, 1e3), st.floats(1e-300, 1e-30))
    temperatures = st.one_of(st.floats(1, 1000), st.sampled_from([1e-6, 0.5, 1.0, 1.0 + 2**-52, 1e30]))
    points = [(0.0, draw(temperatures))]
    for _ in range(COUNT - 1):
        last, step = points[-1][0], draw(steps)
        jumps = len(points) > 1 and points[-2][0] == last
        time = (
            last
            if step == "jump" and not jumps
            else math.nextafter(last, math.inf)
            if isinstance(step, str)
            else last + step
        )
        points.append((max(time, math.nextafter(last, math.inf)) if jumps else time, draw(temperatures)))
    return (*points[:-1], (points[-1][0], 1.0))


def looked_at(points):
    """Times before, in and after a table.

    They are the times of its points, their neighbours in double precision, and times between them.
    """
    times = sorted({t for t, _ in points})
    around = {x for t in times for x in (math.nextafter(t, 0.0), t, math.nextafter(t, math.inf))}
    middles = {a + (b - a) * f for a, b in pairwise(times) for f in (0.1, 0.5, 0.999)}
    return sorted({0.0, *around, *middles, 2 * times[-1], times[-1] + 1, 1e6})


MOST_TIMES = 1 + 3 * COUNT + 3 * (COUNT - 1) + 3
"""The largest number of times in `looked_at`."""


@cache
def table_kernel(device, precision):
    schedule = make_schedule(ScheduleSpec("table", points=STEEP))
    return compile_system(
        DECAY, schedule.beta, (), {}, breakpoints=schedule.breakpoints, device=device, precision=precision
    )


def betas_of_kernel(points, times, device, precision):
    _, values = rows_as_parameters(make_schedule(ScheduleSpec("table", points=points)).beta)
    kernel = table_kernel(device, precision).with_parameters(values)
    return kernel.beta_at(np.array(times).astype(precision)).tolist()


def betas_of_arrays(points, times, library, precision):
    """β by SymPy's `lambdify` for NumPy, which uses no code of the package, or by the package's schedule for JAX."""
    beta = make_schedule(ScheduleSpec("table", points=points)).beta
    if library == "numpy":
        return sp.lambdify(TIME, beta, "numpy")(np.array(times, precision)).tolist()
    # JAX compiles its operations for each length anew, so every table is looked at equally often.
    padded = np.pad(times, (0, MOST_TIMES - len(times)), mode="edge")
    with jax.enable_x64(precision == "float64"):
        found = annealvi.BetaSchedule(ScheduleSpec("table", points=points)).optax()(jax.numpy.asarray(padded))
        return np.asarray(found)[: len(times)].tolist()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(tables())
@example(STEEP)
@example(UNDERFLOWING)
def test_a_table_is_its_definition_everywhere(points):
    times = looked_at(points)
    schedule = make_schedule(ScheduleSpec("table", points=points))
    for t in times:
        with mpmath.workdps(40):
            exact = mpmath.exp(-log_temperature(points, mpmath.mpf(t)))
            found = mpmath.mpf(sp.N(schedule.beta.xreplace({TIME: sp.Float(t)}), 30)._mpf_)
            assert abs(found - exact) < 1e-27 * exact
    assert_between(points, times, map(schedule.beta_at, times), "float64")
    for precision in EPS:
        assert_between(points, times, betas_of_kernel(points, times, "cpu", precision), precision)
    for library, precision in product(("numpy", "jax"), EPS):
        assert_between(points, times, betas_of_arrays(points, times, library, precision), precision)


def until(t0, t, before, after=1):
    return before if t < t0 else after


def staircase(t):
    return max(1, 300 - 50 * mpmath.floor(t / 100))


BETAS = {
    "constant": lambda t, T0, t0: 1 / T0,
    "exponential": lambda t, T0, t0: 1 / (1 + (T0 - 1) * mpmath.exp(-t / t0)),
    "geometric": lambda t, T0, t0: until(t0, t, T0 ** (t / t0 - 1)),
    "linear": lambda t, T0, t0: until(t0, t, 1 / (T0 + (1 - T0) * t / t0)),
    "beta-exponential": lambda t, T0, t0: 1 - (1 - 1 / T0) * mpmath.exp(-t / t0),
    "beta-linear": lambda t, T0, t0: until(t0, t, 1 / T0 + (1 - 1 / T0) * t / t0),
    "cosine": lambda t, T0, t0: until(t0, t, 1 / (1 + (T0 - 1) * mpmath.cos(mpmath.pi * t / t0 / 2) ** 2)),
    "hold": lambda t, T0, t0: until(t0, t, 1 / T0),
    "table": None,
    "1 + exp(-0.05*(t - 2500))": lambda t, T0, t0: 1 / (1 + mpmath.exp(-(t - 2500) * mpmath.mpf(0.05))),
    "max(1, 300 - 50*floor(t/100))": lambda t, T0, t0: 1 / staircase(t),
    "max(1, 1 + 20*(1 - mod(t, 500)/500)*(1 - t/5000))": lambda t, T0, t0: (
        1 / max(1, 1 + 20 * (1 - (t - 500 * mpmath.floor(t / 500)) / 500) * (1 - t / 5000))
    ),
    "1 + 9*exp(-t/100)*min(1 + floor(t/500), 0.5 + mod(t, 500)/500)": lambda t, T0, t0: (
        1
        / (
            1
            + 9
            * mpmath.exp(-t / 100)
            * min(1 + mpmath.floor(t / 500), t / 500 - mpmath.floor(t / 500) + mpmath.mpf(0.5))
        )
    ),
}
"""The retyped definitions. Each is monotone in T0, in t0 and, between jumps, in t; `between` treats the table."""
PARAMETERS = ((300.0, 40.0), (1e30, 0.0078125))
KIND = sp.Symbol("kind", real=True)


def spec_of(name, T0=300.0, t0=40.0):
    if name in SCHEDULE_KINDS:
        return ScheduleSpec(name, T0, t0, points=STEEP if name == "table" else ())
    return ScheduleSpec("expression", expression=name)


def times_of(t0):
    around = [x for t in (t0, 500.0, 600.0, 1001.0) for x in (math.nextafter(t, 0), t, math.nextafter(t, math.inf))]
    return sorted([0.0, 1e-9, t0 / 3, 99.0, 250.0, 1234.5, 2400.0, 4321.0, 1e6, *around])


@cache
def kernel_of_all(device, precision):
    """One kernel that holds every schedule; the parameter KIND selects one by its number."""
    betas = [make_schedule(spec_of(name)).beta for name in BETAS]
    chosen = sp.Piecewise(*((beta, n + 0.5 > KIND) for n, beta in enumerate(betas)), (sp.S.One, True))
    parameters = (START_TEMPERATURE, TIME_SCALE, KIND)
    return compile_system(DECAY, chosen, parameters, dict.fromkeys(parameters, 2.0), device=device, precision=precision)


def betas_of_all(device, precision):
    found = []
    for (T0, t0), n in product(PARAMETERS, range(len(BETAS))):
        kernel = kernel_of_all(device, precision).with_parameters({START_TEMPERATURE: T0, TIME_SCALE: t0, KIND: n})
        found.append(kernel.beta_at(np.array(times_of(t0)).astype(precision)).tolist())
    return found


def assert_all_right(found, precision):
    eps, tiny = EPS[precision], float(np.finfo(precision).tiny)
    factors = [mpmath.mpf(1) + sign * ROUNDINGS * mpmath.mpf(eps) for sign in (-1, 1)]
    for betas, ((T0, t0), (name, definition)) in zip(found, product(PARAMETERS, BETAS.items()), strict=True):
        if name == "table":
            assert_between(STEEP, times_of(t0), betas, precision)
            continue
        for t, beta in zip(times_of(t0), betas, strict=True):
            with mpmath.workdps(40):
                low, high = (t * a for a in factors)
                times = [low, high, *(jump * (1 - mpmath.mpf(10) ** -35) for jump in (500, 600) if low < jump <= high)]
                near = [definition(time, T0 * b, t0 * c) for time, b, c in product(times, factors, factors)]
                slack = ROUNDINGS * eps * (1 + max(abs(mpmath.log(max(b, tiny))) for b in near))
                # The subtraction in 1 − (1 − 1/T0) e^{−t/t0} rounds as 1 does, even where the result is small.
                least = ROUNDINGS * eps if name == "beta-exponential" else tiny
                low, high = min(near) * (1 - slack) - least, max(near) * (1 + slack) + least
            assert low <= beta <= high, (name, precision, T0, t0, t, beta, low, high)


def test_every_kind_is_its_definition_on_every_target():
    assert {*SCHEDULE_KINDS} - {*BETAS} == {"expression"}
    for precision in EPS:
        assert_all_right(betas_of_all("cpu", precision), precision)
    schedules = [make_schedule(spec_of(name, *numbers)) for numbers, name in product(PARAMETERS, BETAS)]
    times = [times_of(t0) for _, t0 in PARAMETERS for _ in BETAS]
    assert_all_right([list(map(s.beta_at, t)) for s, t in zip(schedules, times, strict=True)], "float64")
    for precision in EPS:
        with jax.enable_x64(precision == "float64"):
            traced = [
                annealvi.BetaSchedule(spec_of(name, *numbers)).optax() for numbers, name in product(PARAMETERS, BETAS)
            ]
            assert_all_right(
                [list(map(float, f(jax.numpy.asarray(t)))) for f, t in zip(traced, times, strict=True)], precision
            )


def test_every_kind_on_cuda():
    """The CUDA kernel has the same text and runs in Numba's simulator."""
    for precision, found in in_simulator(
        "{p: t.betas_of_all('cuda', p) for p in t.EPS}", "test_schedule_targets"
    ).items():
        assert_all_right(found, precision)


@pytest.mark.parametrize(
    ("name", "end"), [("table", 1010.0), ("max(1, 1 + 20*(1 - mod(t, 500)/500)*(1 - t/5000))", 720.0)]
)
def test_the_integrator_lands_on_every_jump_and_kink(name, end):
    """The integrator solves m = exp(−∫ β dt) to the tolerance across every jump and kink.

    The relative error of a step is at most rtol, and relative errors add up. The integrator rejects a step across a
    jump until the step is small, so it takes more steps when it does not know where to land.
    """
    schedule = make_schedule(spec_of(name))
    kernel = kernel_of_all("cpu", "float64").with_parameters({KIND: list(BETAS).index(name)})
    landing = dataclasses.replace(kernel, breakpoints=tuple(map(float, schedule.breakpoints)))
    run, blind = (k.integrate(np.ones((1, 1)), [0.0, end], rtol=1e-9, atol=1e-200) for k in (landing, kernel))

    def beta(t):
        return mpmath.exp(-log_temperature(STEEP, t)) if name == "table" else BETAS[name](t, 300, 40)

    ends = sorted({mpmath.mpf(0), *(mpmath.mpf(b) for b in landing.breakpoints if b < end), mpmath.mpf(end)})
    exact = -sum(mpmath.quad(beta, [a, b - (b - a) * mpmath.mpf(10) ** -14]) for a, b in pairwise(ends))
    assert abs(math.log(run.y[0, -1, 0]) - exact) < run.steps[0] * 1e-9 + 1e-11 * end
    assert run.steps[0] < blind.steps[0]


class Running:
    """A number with a bound of its error, in units of the working precision's rounding.

    The bound is that of a formula evaluated as it stands, in arithmetic without limits of range. Such errors come from
    the conditioning of the formula itself: exp(x), for example, is known only to |x| roundings.
    """

    def __init__(self, value, error=0):
        self.value, self.error = mpmath.mpf(value), mpmath.mpf(error) + abs(mpmath.mpf(value))

    def __add__(self, other):
        return Running(self.value + other.value, self.error + other.error)

    def __sub__(self, other):
        return Running(self.value - other.value, self.error + other.error)

    def __mul__(self, other):
        return Running(self.value * other.value, abs(self.value) * other.error + abs(other.value) * self.error)

    def __truediv__(self, other):
        return self * other.through(lambda x: 1 / x, lambda x: 1 / x**2)

    def through(self, function, slope):
        return Running(function(self.value), abs(slope(self.value)) * self.error)

    def __pow__(self, n):
        return self.through(lambda x: x**n, lambda x: n * x ** (n - 1))


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


OF_REALS = {
    "exp": (mpmath.exp, mpmath.exp),
    "cosh": (mpmath.cosh, mpmath.sinh),
    "sech": (mpmath.sech, lambda x: mpmath.sech(x) * mpmath.tanh(x)),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
}

exponents = st.builds(
    lambda a, b, c: (f"({a} - {c}*t/{b})", lambda t: Running(a) - Running(c) * t / Running(b)),
    st.integers(-300, 300),
    st.sampled_from([1, 20, 1152]),
    st.sampled_from([-1, 1, 2]),
)
positives = st.recursive(
    st.one_of(
        st.builds(lambda n: (str(n), lambda t: Running(n)), st.integers(1, 300)),
        st.builds(
            lambda name, x: (f"{name}({x[0]})", lambda t: x[1](t).through(*OF_REALS[name])),
            st.sampled_from(sorted(OF_REALS)),
            exponents,
        ),
        st.builds(
            lambda x: (f"300**{x[0]}", lambda t: (x[1](t) * Running(mpmath.log(300))).through(mpmath.exp, mpmath.exp)),
            exponents,
        ),
    ),
    lambda inner: st.one_of(
        st.builds(lambda a, b: (f"({a[0]} + {b[0]})", lambda t: a[1](t) + b[1](t)), inner, inner),
        st.builds(lambda a, b: (f"({a[0]})*({b[0]})", lambda t: a[1](t) * b[1](t)), inner, inner),
        st.builds(lambda a, b: (f"({a[0]})/({b[0]})", lambda t: a[1](t) / b[1](t)), inner, inner),
        st.builds(
            lambda a, n: (f"({a[0]})**{n}", lambda t: a[1](t) ** n),
            inner,
            st.sampled_from([-1, 2, 12, 0.5, -0.5, 1.25]),
        ),
        st.builds(lambda a: (f"(1 + {a[0]})", lambda t: Running(1) + a[1](t)), inner),
        st.builds(
            lambda a: (
                f"(1 + log(1 + {a[0]}))",
                lambda t: Running(1) + (Running(1) + a[1](t)).through(mpmath.log, lambda x: 1 / x),
            ),
            inner,
        ),
    ),
    max_leaves=6,
)

LOGISTIC = (
    "1 + exp(-0.05*(t - 2500))",
    lambda t: Running(1) + (Running(-0.05) * (t - Running(2500))).through(mpmath.exp, mpmath.exp),
)


def relative_bound(exact):
    """A bound of the relative error, in roundings.

    It allows for the roundings of the formula as it stands, and for those of the logarithms of the value and of its
    parts, because an absolute error of a logarithm is a relative error of its number.
    """
    return 4 * (exact.error / abs(exact.value) + 100)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(positives)
@example(LOGISTIC)
def test_a_formula_of_large_and_small_numbers_has_its_value_in_every_precision(formula):
    """The formula is right as T and as β.

    The range of float32 ends at 1e±38, while intermediate numbers have exponents of thousands.
    """
    text, running = formula
    stated = parse_expression(text, {"t": TIME})
    for form, sign in ((without_overflow(stated), 1), (inverse_without_overflow(stated), -1)):
        traced = sp.lambdify(TIME, form, "jax", printer=_TracedPrinter(_PRINTING))
        double = double_function(form, (TIME,))
        for t in (0.0, 1.0, 99.0, 2500.0, 65536.0, 1e6):
            with mpmath.workdps(60):
                exact = running(Running(t)) ** sign
                bound, log = relative_bound(exact), abs(mpmath.log(exact.value))
            if log < 700:
                assert abs(double(t) - exact.value) <= EPS["float64"] * bound * exact.value, (
                    text,
                    sign,
                    t,
                    exact.value,
                )
            if log < 87:
                found = float(np.asarray(traced(jax.numpy.float32(t))))
                assert abs(found - exact.value) <= EPS["float32"] * bound * exact.value, (
                    text,
                    sign,
                    t,
                    exact.value,
                    found,
                )
