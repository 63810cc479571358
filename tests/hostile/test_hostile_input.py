"""Every input is accepted in silence or refused in one clear line, promptly and without any code being run."""

from __future__ import annotations

import ast
import time

import numpy as np
import pytest
import sympy as sp
from fuzz_problem_files import Task, generator, is_plain_formula, normalised, run
from problem_file_grammar import INPUTS

import annealvi
from annealvi.collapse.outcome import outcomes_of_states
from derive.problem.problem_file import load_problem
from derive.problem.specification import BadInput


def all_is_well(kind, first, cases, share):
    """Assert that no case has a fault, and that at least `share` and at most 60 % of the cases are accepted.

    Returns the number of distinct refusals.
    """
    summary = run(Task(kind, 0, first, first + cases))
    assert summary.cases == cases
    assert [(failure.number, failure.faults) for failure in summary.failures] == []
    assert share <= summary.accepted / cases <= 0.6
    return len(summary.messages)


@pytest.mark.parametrize("first", [0, 1000])
def test_two_thousand_problem_files_are_each_a_problem_or_one_clear_line(first):
    assert all_is_well("problem", first, 1000, 0.25) > 70


@pytest.mark.parametrize(("kind", "share", "messages"), [("set", 0.15, 30), ("state", 0.3, 15), ("initial", 0.3, 4)])
def test_other_inputs_are_each_accepted_or_one_clear_line(kind, share, messages):
    assert all_is_well(kind, 0, 400, share) >= messages


FAULTS = {
    "evaluating": "did more than read: compile",
    "importing": "did more than read: open",
    "running": "did more than read: os.system",
    "spawning": "did more than read: subprocess.Popen",
    "calling": "did more than read: socket.__new__",
    "native": "did more than read: ctypes.",
    "writing": "left behind: ['owned']",
    "peeping": "did more than read: open",
    "failing": "a traceback",
    "chatting": "something",
    "wordy": "not one line",
    "endless": "too long a line",
    "vague": "a line that does not say where",
    "helpless": "a line without a remedy",
    "hanging": "it takes too long",
    "hanging_in_c": "it takes too long",
    "sleeping": "it takes too long",
    "crashing": "it ends Python with status -6",
}


def test_each_fault_that_a_reader_may_have_is_found_out():
    summary = run(Task("problem", 0, 0, len(FAULTS), seconds=0.5, plants=tuple(FAULTS)))
    found = dict.fromkeys(FAULTS, "") | {
        list(FAULTS)[failure.number]: "\n".join(failure.faults) for failure in summary.failures
    }
    assert {reader: fault for reader, fault in FAULTS.items() if fault not in found[reader]} == {}
    assert all(failure.content == generator("problem")(0, failure.number) for failure in summary.failures)


@pytest.mark.quick
@pytest.mark.parametrize("kind", INPUTS)
def test_a_case_is_known_by_its_seed_and_number(kind):
    case = generator(kind)
    first = [case(0, number) for number in range(20)]
    assert first == [generator(kind)(0, number) for number in range(20)]
    assert len(set(first)) > 10
    assert first != [case(1, number) for number in range(20)]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("def f(t, T0):\n    return 1 + T0*double_exp(-t/3) if t < 5 else double_max(1, t)\n", True),
        ("def f(t):\n    return interpolate(t, (0.0, 1.0), (2.0, 3.0))\n", True),
        ("def f(t):\n    return t.real\n", False),
        ("def f(t):\n    return __import__('os')\n", False),
        ("def f(t):\n    import os\n    return t\n", False),
        ("def f(t):\n    return [t for t in (1, 2)]\n", False),
        ("@f\ndef f(t):\n    return t\n", False),
        ("def f(t=exit()):\n    return t\n", False),
        ("1 + 1", False),
    ],
)
def test_only_arithmetic_passes_for_a_formula(source, plain):
    assert is_plain_formula(source) == plain


def test_refusals_are_told_apart_by_what_they_say_alone():
    one, other = (
        f"annealvi: case.toml: target.scales[{n}]: {value} is not a number; write 1.0"
        for n, value in ((0, "[1, 'a']"), (3, "'b'"))
    )
    assert normalised(one) == normalised(other) == "target.scales: is not a number; write #"


def test_the_latex_of_a_formula_is_printed_without_simplifying_it(monkeypatch):
    """SymPy's simplification takes long, tries random numbers and evaluates text, so printing must not call it."""

    def never(*_, **__):
        raise AssertionError

    for name in ("simplify", "is_constant", "equals"):
        monkeypatch.setattr(sp.Expr, name, never)
    load_problem(
        "bimodal", ["schedule.kind=expression", 'schedule.expression="1 + exp(-exp(-max(7, t/t0)))*exp(-t)/(1 + t)"']
    )


def test_a_billion_dimensions_cost_the_equations_nothing():
    """No vector is padded to the full dimension: one padded mode would take eight gigabytes."""
    session = annealvi.open_session(load_problem("bimodal", ["space.dimension=1000000000"]))
    paths = annealvi.integrate(session, n=2, points=2, t_end=0.1, device="cpu")
    assert np.isfinite(paths.values).all()
    assert outcomes_of_states(session, paths.values[:, -1]).covered.shape == (2, 2)


@pytest.mark.parametrize(
    "name", ['x""" ; planted() ; """', "x''' ; planted() ; '''", "' + planted() + '", "{planted()}"]
)
def test_a_problems_name_is_a_text_in_the_source_that_is_generated_and_run(name):
    """The name is the only text of the user in the generated source, and it must not become code there."""
    module = annealvi.open_session(annealvi.Problem(name=name)).compile("cpu").module
    with open(module.__file__, encoding="utf-8") as file:
        source = file.read()
    assert "planted()" in source
    called = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert "planted" not in called


@pytest.mark.parametrize("learn", ["['means']", "['means', 'weights', 'scales']"])
def test_many_states_are_judged_as_each_alone_and_promptly(learn):
    session = annealvi.open_session(annealvi.load_problem("bimodal", [f"flow.learn={learn}"]))
    good, chance, refused = session.random_states(200_000, 1), np.random.default_rng(0), 0
    for _ in range(60):
        states = good[:5].copy()
        states[3] += chance.normal(size=states.shape[1]) * 10.0 ** chance.uniform(-11, 1)

        def one_by_one(states=states):
            for n, state in enumerate(states):
                session.require_state(state, f"states[{n}]", "initial.json")

        alone, together = (
            refusal(one_by_one),
            refusal(lambda states=states: session.require_states(states, "states", "initial.json")),
        )
        assert alone == together
        refused += alone is not None
    assert 5 < refused < 60
    begun = time.process_time()
    session.require_states(good, "states", "initial.json")
    assert time.process_time() - begun < 5


def refusal(call):
    try:
        call()
    except BadInput as wrong:
        return str(wrong)
    return None
