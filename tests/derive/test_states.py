"""The records of states and of the learned parameters behind them.

A state's record says what the state is, whose it is and where it lies.
"""

import sympy as sp

from derive.dynamics.adaptive_schedule import INVERSE_TEMPERATURE, with_adaann
from derive.dynamics.learned import LEARNED, parameters_in
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.parameters import PARAMETERS, SCALES, WEIGHTS
from derive.objects.states import StateKind
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import LEARNABLE, Flow, Problem
from derive.rules.geometry import R, overlaps_of

COSINE, UNIT, LENGTH = (-sp.S.One, sp.S.One), (sp.S.Zero, sp.S.One), (sp.S.Zero, sp.oo)


def records(problem):
    """The records of a problem's states, found without a derivation."""
    setting, geometry = symbolise(problem).setting, symbolise(problem).geometry
    learned = [v for parameter in parameters_in(setting.learn) for v in parameter.variables(setting.proposal)]
    return [
        (v.symbol.name, v.kind, v.components, v.interval) for v in (*overlaps_of(setting, geometry).variables, *learned)
    ]


def test_the_records_of_the_bimodal_case():
    problem = Problem(flow=Flow(learn=("scales", "means", "weights")))
    assert records(problem) == [
        ("m_1", StateKind.MODE_OVERLAP, (0,), COSINE),
        ("m_2", StateKind.MODE_OVERLAP, (1,), COSINE),
        ("s", StateKind.MEAN_OVERLAP, (0, 1), COSINE),
        ("w_1", WEIGHTS, (0,), UNIT),
        ("w_2", WEIGHTS, (1,), UNIT),
        ("sigma_1", SCALES, (0,), LENGTH),
        ("sigma_2", SCALES, (1,), LENGTH),
    ]


def test_the_records_of_free_means():
    line = (-sp.oo, sp.oo)
    assert records(Problem(flow=Flow("euclidean"))) == [
        ("M_11", StateKind.MODE_OVERLAP, (0,), line),
        ("M_21", StateKind.MODE_OVERLAP, (1,), line),
        ("Q_11", StateKind.MEAN_OVERLAP, (0, 0), LENGTH),
        ("Q_12", StateKind.MEAN_OVERLAP, (0, 1), line),
        ("Q_22", StateKind.MEAN_OVERLAP, (1, 1), LENGTH),
    ]
    assert symbolise(Problem(flow=Flow("euclidean"))).geometry.lengths[0][1] == R


def test_every_learned_parameter_has_a_record_and_every_record_a_name_in_the_problem_file():
    assert ("means", *(parameter.name for parameter in PARAMETERS)) == LEARNABLE
    assert parameters_in(("means",)) == ()
    assert tuple(learned.slope.parameter for learned in LEARNED) == PARAMETERS
    for letters in ([parameter.letter for parameter in PARAMETERS], [learned.slope.letter for learned in LEARNED]):
        assert len(set(letters)) == len(letters)


def test_a_rate_before_the_chain_rule_in_plain_text():
    """The JSON of a derivation holds this text, in which the coordinate has a name."""
    for learned in LEARNED:
        text = str(learned.unevaluated_rate(-sp.Symbol("g")).value)
        assert learned.slope.letter in text
        assert "-g" in text
        assert "<class" not in text


def test_a_rules_beta_is_the_last_record():
    system = with_adaann(derive_problem(BUILT_IN["one-component"])).system
    assert [v.kind for v in system.variables] == [StateKind.MODE_OVERLAP, StateKind.INVERSE_TEMPERATURE]
    last = system.variables[-1]
    assert (last.symbol, last.components, last.interval) == (INVERSE_TEMPERATURE, (), UNIT)
