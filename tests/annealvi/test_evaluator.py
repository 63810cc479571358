"""The numbers with which kernels and mutants are compared: what is shared between them must not mix them up."""

import dataclasses

import numpy as np
import pytest
import sympy as sp

from annealvi.verification.evaluator import Evaluator
from derive.checks.mutations import one_term_mutations
from derive.checks.step_check import sample_point
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.expectation import Expectation
from derive.problem.built_in import BUILT_IN


@pytest.fixture(scope="module")
def simplex():
    derivation = derive_problem(BUILT_IN["simplex"])
    point = sample_point(derivation, 3, 0, True, (0.8, 1.8), (0.8, 1.25))
    return derivation.system, {symbol: sp.Float(value, 30) for symbol, value in point.scalars.items()}


def test_a_shared_evaluator_gives_each_mutant_its_own_rates(simplex):
    system, numbers = simplex
    shared, mutants = Evaluator(), one_term_mutations(system, 12)
    before = shared.rates(system, numbers)
    for mutant in mutants:
        own, found = (e.rates_or_nan(mutant.system, numbers) for e in (Evaluator(), shared))
        assert np.allclose(own, found, rtol=0, atol=1e-11, equal_nan=True), mutant.label
    assert (shared.rates(system, numbers) == before).all()


def test_an_average_that_is_no_number_leaves_those_beside_it(simplex):
    system, numbers = simplex
    symbol, first = next((s, e) for s, e in system.subexpressions if e.has(Expectation))
    average = next(iter(first.atoms(Expectation)))
    infinite = Expectation(average.integrand * sp.exp(average.variables[0] ** 4), *average.variables)
    kept = tuple((s, infinite if s == symbol else e) for s, e in system.subexpressions)
    evaluator = Evaluator()
    wrong = evaluator.rates(dataclasses.replace(system, subexpressions=kept), numbers)
    assert np.isnan(wrong).any()
    assert np.allclose(evaluator.rates(system, numbers), Evaluator().rates(system, numbers), rtol=0, atol=1e-11)
