"""Tables of averages over several variables: compared with the reference's sums of the derivation's integrands, which
know nothing of invariants, coordinates and series."""

import platform
import re
from dataclasses import replace

import numba
import numpy as np
import pytest
import sympy as sp
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from hopper_kernels import assembled, integrator_kernels, ptx_of

import annealvi
from derive.objects.expectation import Expectation
from kernels.averages import coordinates, pairs, surfaces
from kernels.averages.lattice_reference import average_and_error
from kernels.averages.tables import build_tables
from kernels.integrate.kernel import compile_system
from kernels.lower.analysis import analyse_averages
from kernels.lower.lattice import averages_of

FOUR_IN_SPACE = (
    "target.means=[[2.0,0.0,0.0],[0.0,2.0,0.0],[0.0,0.0,2.0],[-1.0,-1.0,-1.0]]",
    "target.weights=[0.25,0.25,0.25,0.25]",
    "target.scales=[1.0,1.0,1.0,1.0]",
    "proposal.radius=2.0",
)
MORE = ("proposal.weights=[0.4,0.3,0.3]", "proposal.scales=[1.0,1.0,1.0]")
PROBLEMS = {
    "simplex": ("simplex", (), 1e-6, [2, 2, 2, 3, 3, 3]),
    "more-components": ("more-components", (), 1e-6, [3, 3, 3]),
    "two-scales": ("two-scales", (), 1e-10, [1] * 8),
    "unequal weights": ("simplex", ("proposal.weights=[0.7,0.2,0.1]", "target.weights=[0.05,0.15,0.8]"), 1e-6, [2, 3]),
    "few dimensions": ("two-scales", ("space.dimension=2",), 1e-8, [1]),
    "four modes in space": ("bimodal", FOUR_IN_SPACE, 1e-3, [3]),
    "learned-weights": ("learned-weights", (), 1e-8, [1, 2]),
    "learned-scales": ("learned-scales", (), 1e-7, [2]),
    "learned-scales, further averages": ("learned-scales", (), 1e-7, [2]),
    "learned scales, unequal weights": (
        "learned-scales",
        ("proposal.weights=[0.3,0.7]", "space.dimension=3"),
        1e-6,
        [2],
    ),
}
"""The problem, the tolerance, and how many coordinates its tables have."""


def session_of(name, changes=()):
    return annealvi.open_session(annealvi.load_problem(name, list(changes)))


def of_averages(session, some):
    """The session's system with averages for rates, as many as it has states from number `some` on, in a circle."""
    system = session.derivation.system
    averages = sorted(averages_of(system), key=sp.default_sort_key)
    chosen = [averages[(some + n) % len(averages)] for n in range(len(system.states))]
    return replace(system, rhs=tuple(chosen)), chosen


def compiled(session, system, tolerance, **options):
    options = {"device": "cpu", **options}
    return compile_system(system, sp.S.One, (), session.values, tolerance=tolerance, **options)


def states_of(session, count, seed=3):
    """Random states in few dimensions, where overlaps of every size occur, and states in the problem's own dimension.

    Learned weights are of every size, and learned scales differ by a factor of up to two.
    """
    few = replace(session.problem, space=replace(session.problem.space, dimension=4))
    near = annealvi.open_session(few).random_states(count, seed)
    states = np.concatenate([near, session.random_states(2, seed)])
    generator = np.random.default_rng(seed)
    names = [s.name for s in session.derivation.system.states]
    scales = [n for n, name in enumerate(names) if name.startswith("sigma")]
    states[:, scales] = np.exp(generator.uniform(-0.25, 0.25, (len(states), len(scales))))
    if "w_2" in names:
        least = 10 ** -generator.uniform(0.1, 9, len(states))
        states[:, [names.index("w_1"), names.index("w_2")]] = np.stack([1 - least, least], axis=1)
    return states


def expected(session, system, chosen, states):
    rows = []
    for y in states:
        numbers = {**session.values, **dict(zip(system.states, map(float, y), strict=True))}
        for symbol, definition in system.subexpressions:
            if definition.free_symbols <= numbers.keys() and not definition.has(Expectation):
                numbers[symbol] = float(definition.xreplace({s: sp.Float(v, 17) for s, v in numbers.items()}))
        rows.append([average_and_error(a, numbers)[0] for a in chosen])
    return np.array(rows)


@pytest.mark.parametrize("name", PROBLEMS)
def test_averages_are_those_of_the_reference(name):
    problem, changes, tolerance, counts = PROBLEMS[name]
    session = session_of(problem, changes)
    some = len(session.derivation.system.states) if "further" in name else 0
    system, chosen = of_averages(session, some)
    kernel = compiled(session, system, tolerance)
    assert {len(where.coordinates) for where in kernel.tables.surfaces.values()} == set(counts)
    assert len(kernel.tables.surfaces) == len(kernel.averages.groups)
    states = states_of(session, 4)
    difference = np.abs(kernel.rhs_at_beta(1.0, states) - expected(session, system, chosen, states)).max()
    assert difference <= tolerance
    assert kernel.average_error <= tolerance
    assert difference > 0  # a table is no sum


LEARNED = {
    "learned-weights": (lambda y: np.where([0, 0, 0, 1, 1], [0, 0, 0, 1 - 1e-30, 1e-30], y), "a weight of 1e-30"),
    "learned-scales": (lambda y: np.where([0, 0, 0, 1, 1], [0, 0, 0, 3.0, 0.5], y), "scales in the ratio 6"),
}


@pytest.mark.parametrize("name", LEARNED)
def test_states_outside_the_box_are_summed(name):
    """They are right to the tables' error times the factors of the rates, and lanes that read tables do not notice."""
    session = session_of(name)
    far, what = LEARNED[name]
    by_table, by_sums = (session.compile("cpu", 1e-6, way) for way in ("proxy", "quadrature"))
    states = session.random_states(2 * by_table.lanes, 3)
    assert (by_table.nodes(states) == 0).all()
    mixed = states.copy()
    mixed[20] = far(states[20])
    visited = by_table.nodes(mixed)
    assert visited[20] > 0, what
    assert (visited[by_table.lanes :] == 0).all()
    rates = by_table.rhs_at_beta(1.0, mixed)
    np.testing.assert_array_equal(np.delete(rates - by_table.rhs_at_beta(1.0, states), 20, axis=0), 0.0)
    summed = by_sums.rhs_at_beta(1.0, mixed[20:21])[0]
    np.testing.assert_allclose(rates[20], summed, rtol=0, atol=2e-6 * max(1.0, np.abs(summed).max()))


def test_the_comparison_rejects_a_wrong_offset_of_a_pair(monkeypatch):
    session = session_of("learned-scales")
    system, chosen = of_averages(session, 0)
    states = states_of(session, 2)
    monkeypatch.setattr(surfaces, "read_kept", lambda name: None)
    monkeypatch.setattr(surfaces, "keep", lambda name, content: None)
    right = pairs.PairCoordinates.logits_at
    monkeypatch.setattr(
        pairs.PairCoordinates,
        "logits_at",
        lambda self, u: right(self, u)._replace(offsets=right(self, u).offsets * 1.001),
    )
    wrong = compiled(session, system, 1e-6).rhs_at_beta(1.0, states)
    assert np.abs(wrong - expected(session, system, chosen, states)).max() > 1e-5


def test_the_comparison_rejects_a_wrong_cosine_and_a_wrong_offset(monkeypatch):
    """Tables are measured with their own idea of the logits, so only the comparison can find it wrong."""
    session = session_of("simplex")
    system, chosen = of_averages(session, 0)
    states = states_of(session, 2)
    exact = expected(session, system, chosen, states)

    def difference():
        return np.abs(compiled(session, system, 1e-6).rhs_at_beta(1.0, states) - exact).max()

    with monkeypatch.context() as wrong:
        wrong.setattr(surfaces, "read_kept", lambda name: None)
        wrong.setattr(surfaces, "keep", lambda name, content: None)
        true = coordinates.Coordinates.basic

        def basic(self, u):
            found = true(self, u)
            for k in self.cosines:
                found[:, k] *= 0.99
            return found

        wrong.setattr(coordinates.Coordinates, "basic", basic)
        assert difference() > 1e-5
    with monkeypatch.context() as wrong:
        wrong.setattr(surfaces, "read_kept", lambda name: None)
        wrong.setattr(surfaces, "keep", lambda name, content: None)
        right = coordinates.Coordinates.logits_at

        def with_wrong_offsets(self, u):
            logits = right(self, u)
            return logits._replace(offsets=1.0001 * logits.offsets)

        wrong.setattr(coordinates.Coordinates, "logits_at", with_wrong_offsets)
        assert difference() > 1e-5


def test_groups_of_one_function_share_a_table():
    """The three means of the simplex see its modes alike."""
    session = session_of("simplex")
    averages = analyse_averages(session.derivation.system)
    tables = build_tables(averages, session.values, 1e-6, True)
    starts = tables.layout[:, 0]
    assert starts[0] == starts[1] == starts[2] < starts[3]
    unequal = session_of("simplex", ("proposal.scales=[1.0,1.0,1.1]",))
    tables = build_tables(analyse_averages(unequal.derivation.system), unequal.values, 1e-4, True)
    assert len(set(tables.layout[:, 0].tolist())) > 2


@pytest.mark.parametrize(
    ("name", "changes", "tolerance", "why"),
    [
        ("square", (), 1e-4, "the proposal's averages look at six overlaps"),
        ("simplex", (), 1e-12, "three coordinates need too many terms"),
        ("simplex", ("proposal.radius=40.0",), 1e-4, "the logits are too steep"),
        ("learned-weights", MORE, 1e-8, "three components with learned weights have five coordinates"),
        ("learned-scales", ('flow.learn=["means","weights","scales"]',), 1e-8, "the offset of the logits has its own"),
    ],
)
def test_what_has_no_table_is_summed_over_a_lattice_and_says_so(name, changes, tolerance, why):
    session = session_of(name, changes)
    averages = analyse_averages(session.derivation.system)
    tables = build_tables(averages, session.values, tolerance, True)
    assert len(tables.surfaces) < len(averages.groups), why
    methods = [m.method for m in tables.measured_errors]
    assert any("lattice" in m for m in methods)
    assert sum("series" in m for m in methods) == len(tables.surfaces)
    assert not build_tables(averages, session.values, 1e-4, False).surfaces, "quadrature makes no table"


def test_a_state_outside_its_interval_is_no_number():
    session = session_of("two-scales")
    kernel = session.compile("cpu", 1e-8)
    inside, outside = [0.2, 0.1, 1.005], [0.2, 0.1, 1.1]
    rates = kernel.rhs_at_beta(1.0, [inside, outside])
    assert np.isfinite(rates[0]).all()
    assert np.isnan(rates[1]).any()


def test_a_state_has_the_same_rates_in_any_company_and_on_any_number_of_threads(monkeypatch):
    session = session_of("simplex")
    kernel = session.compile("cpu", 1e-6)
    states = session.random_states(70, 5)
    together = kernel.rhs_at_beta(0.7, states)
    np.testing.assert_array_equal(kernel.rhs_at_beta(0.7, states[[69]])[0], together[69])
    np.testing.assert_array_equal(kernel.rhs_at_beta(0.7, states[::-1]), together[::-1])
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)
    np.testing.assert_array_equal(kernel.rhs_at_beta(0.7, states), together)


def test_paths_by_tables_are_those_by_lattices():
    """The tables' error enters a rate some ten times, and β is small while the paths of this time part."""
    session = session_of("two-scales")
    states = session.random_states(8, 2)
    times = np.linspace(0, 400, 5)
    by_table, by_lattice = (
        session.compile("cpu", 1e-8, way).integrate(states, times, rtol=1e-8, atol=1e-10).y
        for way in ("proxy", "quadrature")
    )
    np.testing.assert_allclose(by_table, by_lattice, atol=3e-6)


def test_a_table_is_kept_and_a_damaged_file_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("ANNEALVI_CACHE_DIR", str(tmp_path))
    session = session_of("two-scales")
    averages = analyse_averages(session.derivation.system)
    made = []
    original = surfaces._made
    monkeypatch.setattr(surfaces, "_made", lambda *given: made.append(1) or original(*given))
    first = build_tables(averages, session.values, 1e-6, True)
    count = len(made)
    assert count > 0
    again = build_tables(averages, session.values, 1e-6, True)
    assert len(made) == count
    np.testing.assert_array_equal(again.values, first.values)
    assert again.measured_errors == first.measured_errors
    for file in tmp_path.glob("table-*.npy"):
        file.write_bytes(file.read_bytes()[:-3] + b"abc")
    np.testing.assert_array_equal(build_tables(averages, session.values, 1e-6, True).values, first.values)
    assert len(made) == 2 * count


def rates_on(device):
    """Rates by tables in one, two and three coordinates."""
    found = {}
    for name, changes in (("two-scales", ()), ("simplex", ("proposal.radius=1.0",)), ("learned-weights", ())):
        session = session_of(name, changes)
        kernel = session.compile(device, 1e-2)
        assert kernel.tables.surfaces
        assert len(kernel.tables.surfaces) == len(kernel.averages.groups)
        found[name] = kernel.rhs_at_beta(0.5, session.random_states(2, 1)).tolist()
        found["device"] = kernel.device
    return found


def assert_same_to_rounding(found, wanted):
    for name in wanted.keys() - {"device"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-12, err_msg=name)


def test_simulated_cuda_agrees_with_the_cpu():
    found = in_simulator("t.rates_on('cuda')", "test_surfaces")
    assert found["device"] == "cuda simulator"
    assert_same_to_rounding(found, rates_on("cpu"))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = rates_on("cuda")
    assert found["device"].startswith("cuda: ")
    assert_same_to_rounding(found, rates_on("cpu"))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("name", ["simplex", "learned-scales"])
def test_tables_compile_for_hopper_without_a_gpu(name):
    session = session_of(name)
    averages = analyse_averages(session.derivation.system)
    tables = build_tables(averages, session.values, 1e-4, True)
    kernels = integrator_kernels(name, averages, sp.S.One, (), tables.by_proxy, surfaces=tables.surfaces)
    (rates,) = (kernel for kernel in kernels if "rates_all" in kernel.name)
    assert assembled(ptx_of(rates)).spilled == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 instructions")
def test_sums_of_series_are_vector_instructions():
    """A slice or an index that LLVM cannot follow, or too short a loop over lanes, would make them scalar."""
    session = session_of("two-scales")
    kernel = session.compile("cpu", 1e-6)
    kernel.rhs_at_beta(1.0, session.random_states(1, 0))
    summed = numba.njit(error_model="numpy", fastmath={"contract"}, _nrt=False)(kernel.module.summed.py_func)
    summed(np.zeros(64), 0, 2, np.zeros(64 * kernel.lanes), 0)
    (text,) = summed.inspect_asm().values()
    packed, scalar = (len(re.findall(rf"\tvf\w*{kind}\b", text)) for kind in ("pd", "sd"))
    assert packed > 0
    assert scalar == 0
