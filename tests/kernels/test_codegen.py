"""The generated right-hand sides: comparison with 30 digits, and what the source contains."""

import re
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from handtyped import (
    COSINES,
    STATES,
    T0,
    TIME,
    VALUES,
    R,
    bimodal_system,
    exponential_beta,
    hold_beta,
    states_of_unit_vectors,
    t0,
    w_1,
    z,
)
from retyped import F_mp, exchange_sech_mp

from derive.objects.expectation import Expectation
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import BETA, OdeSystem
from kernels.generate.codegen import generate
from kernels.generate.system_calls import calls
from kernels.integrate.kernel import compile_system
from kernels.lower.analysis import analyse_averages
from kernels.machine.module_cache import VARIABLE

SCHEDULE = {T0: 30.0, t0: 288.0}
STATE_TEXTS = [
    ("0.1", "-0.2", "0.05"),
    ("0.9", "-0.95", "-0.9"),
    ("1", "-1", "-1"),
    ("0.999", "0.998", "0.9985"),
    ("1", "1", "1"),
]


@pytest.fixture(scope="module")
def kernel():
    return compile_system(bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **SCHEDULE}, device="cpu")


@pytest.fixture(scope="module")
def by_quadrature():
    return compile_system(
        bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **SCHEDULE}, device="cpu", expectations="quadrature"
    )


def rates_mp(state, beta, radius, w_star, weight):
    """The rates of the page's three equations to 30 digits."""
    m_1, m_2, s = (sp.Rational(v) for v in state)
    first, second = (sp.Float(F_mp(v, radius, w_star), 30) * sp.Rational(beta) for v in state[:2])
    g = sp.Float(exchange_sech_mp(state[2], radius, weight), 30)
    w1 = sp.Rational(weight)
    w2 = 1 - w1
    return [
        float(w1 * first * (1 - m_1**2) - g * (m_2 - s * m_1)),
        float(w2 * second * (1 - m_2**2) - g * (m_1 - s * m_2)),
        float(w1 * first * (m_2 - s * m_1) + w2 * second * (m_1 - s * m_2) - 2 * g * (1 - s**2)),
    ]


@pytest.mark.parametrize("lowering", ["kernel", "by_quadrature"])
def test_rates_against_thirty_digits(lowering, request):
    compiled = request.getfixturevalue(lowering)
    states = np.array(STATE_TEXTS, float)
    expected = [rates_mp(s, "0.4", "3", "0.8", "0.5") for s in STATE_TEXTS]
    # Three averages with errors of at most 2e-12 each, and factors up to one.
    np.testing.assert_allclose(compiled.rhs_at_beta(0.4, states), expected, rtol=0, atol=6e-12)
    at_time = compiled.rhs(120.0, states)
    np.testing.assert_array_equal(at_time, compiled.rhs_at_beta(compiled.beta_at(120.0)[0], states))


def test_other_parameters_share_the_compiled_code(kernel):
    """After changes of R, w*, w_1 and the schedule, by symbol and by name, the values again agree with 30 digits."""
    other = kernel.with_parameters({R: 2.0, "w_star": 0.6, w_1: 0.3, "T0": 5.0})
    assert other.module is kernel.module
    assert other.averages is kernel.averages
    expected = [rates_mp(s, "0.9", "2", "0.6", "0.3") for s in STATE_TEXTS[:2]]
    np.testing.assert_allclose(other.rhs_at_beta(0.9, np.array(STATE_TEXTS[:2], float)), expected, rtol=0, atol=6e-12)
    assert other.beta_at(0.0) == pytest.approx([1 / 5])
    assert kernel.beta_at(0.0) == pytest.approx([1 / 30])
    assert len(kernel.executable.integrator.rates_all.signatures) == 1


def test_one_beta_per_state(kernel):
    states = np.array(STATE_TEXTS, float)
    betas = np.linspace(0.1, 1.0, len(states))
    together = kernel.rhs_at_beta(betas, states)
    for n, beta in enumerate(betas):
        np.testing.assert_array_equal(together[n], kernel.rhs_at_beta(beta, states[n])[0])


def test_equal_averages_share_one_function_and_one_table(kernel):
    averages = analyse_averages(bimodal_system())
    assert [state for _, state in averages.tabulated] == [0, 2]
    source = program().source
    assert len(re.findall(r"def average_\d+\(", source)) == 2
    assert len(re.findall(r"average_0\(y\[[01] \* LANES :", source)) == 2
    assert len(kernel.measured_errors) == 2


def program(target="cpu", precision="float64", system=None, beta=None, parameters=(T0, t0)):
    schedule = exponential_beta() if beta is None else beta
    averages = analyse_averages(system or bimodal_system())
    return generate(averages, schedule, parameters, {0: True, 1: True}, target, precision)


@pytest.mark.quick
def test_values_and_tables_are_not_in_the_source():
    body = program().source.split("def own_rates(")[1].split("def ")[0]
    numbers = {float(n) for n in re.findall(r"(?<![\w.\[])\d+\.\d+", body)}
    assert numbers <= {0.0, 0.25, 0.5, 1.0, 2.0}


def test_cpu_and_cuda_differ_only_in_headers_lanes_entries_and_calls_of_the_system():
    """On CUDA one module holds what on the CPU is divided between three."""

    def body(target, source):
        lines = source.split("\ndevice = ")[1].split("\n", 1)[1].replace(calls(target), "").splitlines()
        lines = [re.sub(r"@native\(.*\)", "@device", line) for line in lines]
        end = next((n - 1 for n, line in enumerate(lines) if line.startswith("def integrate_all(")), len(lines))
        return [line for line in lines[:end] if line and not re.match(r"LANES = |entry = |[A-Z]+_SIZE = ", line)]

    cpu, cuda = program("cpu", precision="float32"), program("cuda", precision="float32")
    parts = (cpu.source, cpu.schedule, cpu.integrator)
    assert [line for part in parts for line in body("cpu", part)] == body("cuda", cuda.source)
    assert cuda.schedule is None
    assert cuda.integrator is None
    assert "fastmath" not in program("cuda").source
    for source in (program("cpu").source, program("cpu").schedule, program("cpu").integrator):
        assert set(re.findall(r"fastmath=\{([^}]*)\}", source)) == {"'contract'"}


@pytest.mark.parametrize(
    ("target", "precision", "own"), [("cpu", "float64", True), ("cpu", "float32", False), ("cuda", "float64", False)]
)
def test_only_double_precision_on_the_cpu_has_its_own_exponential(target, precision, own):
    library = "kernels.machine.vector_math" if own else "math"
    assert f"from {library} import exp, log, tanh" in program(target, precision).source


def test_every_float_literal_of_single_precision_is_cast():
    single = program(precision="float32")
    text = "\n".join((single.source, single.schedule, single.integrator))
    code = re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.S)
    assert code.count("float32(") > 30
    bare = re.sub(r"float32\([^()]*\)", "", code)
    assert re.findall(r"(?<![\w.])\d+\.\d*|(?<![\w.])\d+e-?\d+", bare) == []


def test_single_precision_rates(kernel, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))  # code from the cache cannot be inspected
    single = compile_system(
        bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **SCHEDULE}, device="cpu", precision="float32"
    )
    states = states_of_unit_vectors(50, 4, 1)
    rates = single.rhs_at_beta(0.4, states)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, kernel.rhs_at_beta(0.4, states), rtol=0, atol=3e-6)
    (text,) = single.module.own_rates.dispatcher.inspect_llvm().values()
    assert " double " not in text.split("define ")[1]


def test_the_derived_system_gives_the_same_kernel():
    """The kernel of the derived equations agrees with that of the typed ones."""
    from annealvi.session.session import open_session
    from derive.problem.problem_file import load_problem

    session = open_session(load_problem("bimodal", ["proposal.weights=[0.3, 0.7]"]))
    typed = compile_system(
        bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, **SCHEDULE, w_1: 0.3}, device="cpu"
    )
    states = states_of_unit_vectors(40, 4, 2)
    np.testing.assert_allclose(
        session.compile("cpu").rhs_at_beta(0.7, states), typed.rhs_at_beta(0.7, states), rtol=0, atol=1e-11
    )


@pytest.mark.quick
def test_a_stray_symbol_in_the_schedule_is_named():
    with pytest.raises(ValueError, match="t1"):
        program(beta=1 / (1 + TIME * sp.Symbol("t1")))


@pytest.mark.parametrize("name", ["y", "beta", "lambda", "a b", "average_1", "math", "T0"])
def test_a_name_that_the_source_cannot_use_is_refused(name):
    symbol = sp.Symbol(name, real=True, extended_real=True, finite=True)
    cosine = StateVariable(symbol, StateKind.MODE_OVERLAP, (0,), (sp.Integer(-1), sp.Integer(1)))
    gram = sp.ImmutableMatrix([[1, symbol], [symbol, 1]])
    system = OdeSystem("named", (cosine,), (), (), (-BETA * symbol,), gram)
    with pytest.raises(ValueError, match="name"):
        generate(analyse_averages(system), exponential_beta(), (T0, t0), {}, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {R: 3.0}}, "no value is given for w_star, w_1"),
        ({"values": {**VALUES, "W": 1.0}}, "W: no such parameter"),
        ({"values": {**VALUES, R: float("nan")}}, "finite"),
        ({"expectations": "guess"}, "expectations"),
        ({"precision": "float16"}, "precision"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_bad_requests_say_what_is_wrong(change, message):
    options = {"values": {**VALUES}, "device": "cpu"} | change
    values = {**options.pop("values"), **SCHEDULE}
    with pytest.raises(ValueError, match=message):
        compile_system(bimodal_system(), exponential_beta(), (T0, t0), values, **options)


def test_an_average_of_a_cubic_logit_is_refused():
    other = type(z)("zeta")
    average = Expectation(sp.tanh(STATES[0] + z**2 * other), z, other)
    symbol = sp.Symbol("A", real=True)
    system = OdeSystem("wide", COSINES, (), ((symbol, average),), (symbol, sp.S.Zero, sp.S.Zero), bimodal_system().gram)
    with pytest.raises(ValueError, match="not quadratic in normal variables"):
        generate(analyse_averages(system), hold_beta(), (T0, t0), {}, "cpu")


def test_states_of_different_intervals_have_tables_of_their_own():
    right = bimodal_system()
    first, *others = right.variables
    wider = replace(right, variables=(replace(first, interval=(-R, R)), *others))
    assert [state for _, state in analyse_averages(wider).tabulated] == [0, 1, 2]
    kernels = [
        compile_system(s, exponential_beta(), (T0, t0), {**VALUES, **SCHEDULE}, device="cpu") for s in (right, wider)
    ]
    assert [c.average for c in kernels[1].measured_errors].count(kernels[1].measured_errors[0].average) == 2
    np.testing.assert_array_equal(kernels[1].tables.ranges, [[-3, 3], [-1, 1], [-1, 1]])
    states = np.array(STATE_TEXTS, float)
    np.testing.assert_allclose(*(k.rhs_at_beta(0.4, states) for k in kernels), rtol=0, atol=6e-12)
