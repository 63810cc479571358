"""Sums over bound indices, and the rules in index notation outside their hypotheses."""

from __future__ import annotations

import pytest
import sympy as sp

from derive.objects.indices import COMPONENTS, MODES, Entry, I, Index, Sum, VectorEntry, equal, fresh, total
from derive.objects.mixtures import PROPOSAL, TARGET, Average, Deviation, LogDensity, Responsibility, Sample
from derive.objects.vectors import Inner, SquaredDeviation
from derive.rules.flow import Descent, close, project
from derive.rules.gradient_rules import (
    RuleDoesNotApplyError,
    exchange_responsibilities,
    gathered,
    gradient,
    inner,
    logs_of_responsibilities,
    map_atoms,
    scores,
    stein,
    sums_to_one,
)

J, L, M = (Index(name, COMPONENTS) for name in ("j", "l", "j1"))
K = Index("k", MODES)
A, W, SIGMA = PROPOSAL.mean, PROPOSAL.weight, PROPOSAL.scale
X, XJ = Sample(PROPOSAL, I), Sample(PROPOSAL, J)
DELTA = sp.KroneckerDelta


def q(*indices):
    return Entry("Q", *indices)


def m(*indices):
    return Entry("M", *indices)


def rho(j, x, mixture=PROPOSAL):
    return Responsibility(mixture, j, x)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sum(W(J) * q(I, J), J), Sum(W(L) * q(I, L), L)),
        (Sum(Sum(W(J) * SIGMA(L) * q(J, L), L), J), Sum(Sum(W(L) * SIGMA(J) * q(J, L), L), J)),
        (Sum(Sum(m(J, K) * W(J), K), J), Sum(W(L) * Sum(m(L, K), K), L)),
        (
            Sum(Sum(Sum(W(J) * SIGMA(L) * m(M, K) * q(J, M), M), L), J),
            Sum(Sum(Sum(W(M) * SIGMA(J) * m(L, K) * q(M, L), M), L), J),
        ),
        (Sum(W(J) + q(I, J), J), Sum(W(L), L) + Sum(q(I, M), M)),
        (Sum(sp.S.One, J), COMPONENTS),
    ],
)
def test_sums_are_equal_whatever_the_names_and_the_order_of_their_indices(one, other):
    assert equal(one, other)
    assert not equal(one, 2 * other)
    assert not equal(one, -other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sum(Sum(W(J) * W(L) * q(J, L), L), J), Sum(W(J) ** 2 * q(J, J), J)),
        (Sum(Sum(W(J) * SIGMA(L) * m(J, K), L), J), Sum(Sum(W(J) * SIGMA(L) * m(L, K), L), J)),
        (Sum(W(J) * q(I, J), J), Sum(W(J) * q(J, J), J)),
        (Sum(W(J), J) ** 2, Sum(W(J) ** 2, J)),
        (Sum(m(I, K), K), Sum(m(J, K), K)),
        (Sum(W(J) * W(J), J), W(I) * Sum(W(J), J)),
    ],
)
def test_different_sums_are_told_apart(one, other):
    assert not equal(one, other)


def test_substitution_captures_no_index():
    """In Σ_j w_j Q_ij with j for i, the bound index gets another name."""
    sum_over_j = Sum(W(J) * q(I, J), J)
    found = sum_over_j.xreplace({I: J})
    assert found.index != J
    assert J in found.free_symbols
    assert found.xreplace({J: I}) == Sum(W(L) * q(I, L), L).xreplace({L: found.index})
    assert equal(found, Sum(W(L) * q(J, L), L))
    assert not equal(found, Sum(W(L) * q(L, L), L))
    nested = Sum(Sum(q(I, J) * m(L, K) * W(J), L), J).xreplace({I: L})
    assert equal(nested, Sum(Sum(q(L, J) * m(M, K) * W(J), M), J))
    both = Sum(q(I, J) * m(L, K), J).xreplace({I: L, L: I})
    assert equal(both, Sum(q(L, J) * m(I, K), J))


def test_a_bound_index_is_not_replaced():
    sum_over_j = Sum(W(J) * q(I, J), J)
    assert sum_over_j.xreplace({J: I}) == sum_over_j
    assert sum_over_j.free_symbols >= {I, COMPONENTS}
    assert J not in sum_over_j.free_symbols


def test_a_fresh_index_occurs_nowhere():
    taken = Sum(W(J) * q(I, J), J) + W(L) + W(M)
    index = fresh(COMPONENTS, taken)
    assert index.name not in {"i", "j", "l", "j1"}
    assert fresh(MODES, taken).size == MODES


def test_a_kronecker_delta_leaves_one_term():
    assert Sum(DELTA(I, J) * W(J), J) == W(I)
    assert Sum(Sum(DELTA(J, L) * q(I, J) * W(L), L), J) == Sum(q(I, J) * W(J), J)
    assert total(W(J) * (DELTA(I, J) - W(I)), J) == W(I) - W(I) * Sum(W(J), J)
    assert Sum(DELTA(I, J) ** 2 * W(J), J) == W(I)


def test_factors_without_the_index_stand_before_a_sum():
    assert Sum(W(I) * q(I, J), J) == W(I) * Sum(q(I, J), J)
    assert Sum(W(I), J) == COMPONENTS * W(I)


def test_the_inner_product_of_two_sums_has_two_indices():
    u = Sum(W(J) * A(J), J)
    assert equal(inner(u, u), Sum(Sum(W(J) * W(L) * Inner(A(J), A(L)), L), J))
    assert not equal(inner(u, u), Sum(W(J) ** 2 * Inner(A(J), A(J)), J))


def test_linear_maps_act_on_vectors_alone():
    vector = W(I) * Sum(q(I, J) * A(J), J) - A(I)
    assert map_atoms(vector, lambda v: 2 * v) == sp.expand(2 * vector)
    for scalar in (W(I), Inner(A(I), A(J)), sp.S.One, Sum(q(I, J), J), W(I) * q(I, J) + W(J)):
        with pytest.raises(RuleDoesNotApplyError, match="no vector"):
            map_atoms(scalar, lambda v: 2 * v)


def test_the_closure_refuses_a_vector_that_is_left():
    assert close(W(I) * q(I, J), {}) == W(I) * q(I, J)
    for vector in (A(I), Sum(W(J) * A(J), J), q(I, J) * TARGET.mean(K)):
        with pytest.raises(RuleDoesNotApplyError, match="does not close"):
            close(vector, {})


def test_a_manifold_without_a_projection_is_refused():
    with pytest.raises(ValueError, match="torus"):
        project(Descent(A(J), A(I), "torus"))


def test_the_exchange_of_responsibilities():
    f = Inner(XJ, A(I))
    exchanged = W(I) * Average(Inner(X, A(I)), X)
    assert exchange_responsibilities(Sum(W(J) * Average(rho(I, XJ) * f, XJ), J), PROPOSAL) == exchanged
    twice = Sum(W(J) * Average(rho(I, XJ) * (2 * f + 1), XJ), J)
    assert equal(exchange_responsibilities(twice, PROPOSAL), 2 * exchanged + W(I))


@pytest.mark.parametrize(
    "left",
    [
        Sum(W(J) * Average(rho(I, XJ) * Inner(XJ, A(J)), XJ), J),  # f depends on j
        Sum(W(J) * SIGMA(J) * Average(rho(I, XJ), XJ), J),
        Sum(Average(rho(I, XJ), XJ), J),  # no weight
        Sum(W(J) ** 2 * Average(rho(I, XJ), XJ), J),
        Sum(W(J) * Average(rho(K, XJ, TARGET), XJ), J),  # the target's responsibility
        Sum(W(J) * Average(rho(I, XJ) * rho(L, XJ), XJ), J),
        Sum(W(J) * Average(rho(J, X), X), J),  # a sample of one component
        Sum(W(J) * Average(rho(I, XJ.lifted()), XJ.lifted()), J),
        W(I) * Average(rho(J, X), X),
    ],
)
def test_the_exchange_leaves_what_has_another_form(left):
    assert equal(exchange_responsibilities(left, PROPOSAL), left)


def test_what_sums_to_one():
    assert sums_to_one(Sum(W(J), J)) == sums_to_one(Sum(TARGET.weight(K), K)) == 1
    assert sums_to_one(W(I) * Sum(Average(rho(J, X), X), J)) == W(I)
    assert sums_to_one(Sum(Average(rho(K, X, TARGET), X), K)) == 1
    for left in (
        Sum(W(J) ** 2, J),
        Sum(W(J) * SIGMA(J), J),
        Sum(TARGET.weight(K) ** 2, K),
        Sum(Average(rho(J, X) ** 2, X), J),
        Sum(Average(rho(J, X) * rho(I, X), X), J),
        Sum(SIGMA(J) * Average(rho(J, X), X), J),
        Sum(Average(rho(I, XJ), XJ), J),
    ):
        assert sums_to_one(left) == left


def test_the_moments_of_a_deviation():
    z, d = Deviation(X), sp.Symbol("d", positive=True, integer=True)
    squared = SquaredDeviation(X)
    assert stein(Average(z, X)) == 0
    assert stein(Average(squared, X)) == d
    assert stein(Average(squared**2, X)) == d * (d + 2)
    assert stein(Average(Inner(z, A(J)) * Inner(z, A(L)), X)) == SIGMA(I) ** 2 * Inner(A(J), A(L))
    assert stein(Average(Inner(z, A(J)) ** 2, X)) == SIGMA(I) ** 2 * Inner(A(J), A(J))
    assert stein(Average(squared * Inner(z, A(J)), X)) == 0


@pytest.mark.parametrize(
    "f",
    [
        SquaredDeviation(X) ** 3,
        SquaredDeviation(X) * Inner(Deviation(X), A(J)) ** 2,
    ],
)
def test_a_moment_that_no_rule_gives_is_refused(f):
    with pytest.raises(RuleDoesNotApplyError, match="no moment"):
        stein(Average(f, X))


def test_steins_lemma_leaves_an_average_without_a_deviation():
    for f in (rho(J, X), rho(J, X) * rho(L, X), rho(J, X) * SquaredDeviation(X)):
        assert stein(Average(f, X)) == Average(f, X)


def test_the_log_of_a_density_is_taken_apart_at_its_own_component_or_the_last_mode():
    own = logs_of_responsibilities(Average(LogDensity(PROPOSAL, X), X))
    assert own.has(sp.log(rho(I, X)))
    of_target = logs_of_responsibilities(Average(LogDensity(TARGET, X), X))
    assert of_target.has(sp.log(rho(MODES, X, TARGET)))
    assert logs_of_responsibilities(Average(rho(J, X), X)) == Average(rho(J, X), X)


def test_gradients_of_what_does_not_depend_on_the_vector_vanish():
    assert gradient(LogDensity(TARGET, X), A(I)) == 0
    assert gradient(rho(K, X, TARGET), A(I)) == 0
    assert gradient(W(I) * SIGMA(I), X) == 0
    assert scores(W(I)) == W(I)


def test_slopes_are_gathered_into_one_sum_for_each_family():
    u = VectorEntry("u", I, J)
    two = Sum(W(J) * u, J) + 2 * Sum(SIGMA(L) * VectorEntry("u", I, L), L)
    other = Sum(W(J) * A(J), J)
    found, rest = gathered(two + other)
    assert isinstance(found, Sum)
    assert equal(found, Sum((W(J) + 2 * SIGMA(J)) * u, J))
    assert equal(rest, other)


def test_the_exchange_lets_no_bound_index_out():
    own = Sum(W(J) * Average(rho(J, XJ), XJ), J)
    assert J not in exchange_responsibilities(own, PROPOSAL).free_symbols
    assert equal(exchange_responsibilities(own, PROPOSAL), own)


def test_a_power_of_a_sum_is_a_double_sum():
    assert equal(Sum(W(J), J) ** 2, Sum(Sum(W(J) * W(L), L), J))


def test_no_way_of_substitution_captures_an_index():
    sum_over_j = Sum(W(J) * q(I, J), J)
    for found in (sum_over_j.xreplace({I: J}), sum_over_j.subs(I, J), sum_over_j.subs({I: J}, simultaneous=True)):
        assert equal(found, Sum(W(L) * q(J, L), L))
    assert sum_over_j.subs(J, 3) == sum_over_j


@pytest.mark.parametrize(
    "f",
    [
        Inner(Deviation(X), A(J)) ** 4,
        Inner(Deviation(X), A(J)) * sp.exp(SquaredDeviation(X)),
        rho(J, X) * Inner(Deviation(X), A(J)) * Inner(Deviation(X), A(L)),
    ],
)
def test_steins_lemma_names_what_it_does_not_cover(f):
    with pytest.raises(RuleDoesNotApplyError):
        stein(Average(f, X))
