"""The derivation for any K and L: its closed equations against rates retyped as loops over vectors, and its mutants.

The checks of its steps at given K and L are in `test_general_steps.py`, those of its rules in `test_general_rules.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy as sp
from general_rates import DIGITS, Point, rates
from settings_of_any_size import LEARN, MANIFOLDS, problem_of

from annealvi.verification.evaluator import Evaluator
from annealvi.verification.kl_gradient import reference
from derive.dynamics import derivation as derivation_module
from derive.dynamics.derivation import Derivation, apply_rules
from derive.dynamics.general import GeneralDerivation, apply_general_rules, general_derivation
from derive.dynamics.instances import Instance
from derive.dynamics.symbolic_problem import derivation as derivation_for_any_numbers
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.indices import COMPONENTS, MODES, OTHER, Entry, I, Index, Sum, equal
from derive.objects.mixtures import PROPOSAL, TARGET, Average, LogDensity
from derive.objects.notation import indexed_name
from derive.objects.objective import POINT, MixtureExpectation, Setting
from derive.objects.step import Equation, definitions
from derive.objects.system import BETA
from derive.objects.vectors import Inner
from derive.problem.specification import Flow, Problem, Proposal, Space, Target
from derive.rules.gradient_rules import map_atoms

BOUND = mpmath.mpf("1e-30")


def general_of(manifold: str = "sphere", learn: tuple[str, ...] = ("means",)) -> GeneralDerivation:
    return derivation_for_any_numbers(Problem(flow=Flow(manifold, learn=learn)))


class Numbers:
    """The numbers of expressions in which names are looked up: entries in index notation, or a problem's own symbols.

    known: numbers by (family, indices), or by a symbol's name. defined: the equations of other names.
    """

    def __init__(self, K: int, L: int, known: Mapping, defined: Mapping):
        self.sizes, self.known, self.defined = {MODES: K, COMPONENTS: L}, dict(known), defined

    def of(self, e: sp.Expr, at: Mapping) -> mpmath.mpf:
        if isinstance(e, Entry):
            return self.named((e.family, *(int(at.get(i, self.sizes.get(i, i))) for i in e.indices)))
        if isinstance(e, Sum):
            return mpmath.fsum(self.of(e.term, {**at, e.index: n}) for n in range(1, self.sizes[e.index.size] + 1))
        if e.is_Symbol:
            return mpmath.mpf(at.get(e, self.sizes.get(e, 0))) or self.named(e.name)
        if e.is_Rational:
            return mpmath.mpf(e.p) / e.q
        parts = [self.of(part, at) for part in e.args]
        by_kind = {sp.Add: mpmath.fsum, sp.Mul: mpmath.fprod}
        return by_kind[e.func](parts) if e.func in by_kind else {sp.Pow: pow, sp.log: mpmath.log}[e.func](*parts)

    def named(self, name: tuple | str) -> mpmath.mpf:
        if name not in self.known:
            family, *indices = (name,) if isinstance(name, str) else name
            equation = self.defined[family, len(indices)]
            self.known[name] = self.of(equation.value, dict(zip(equation.indices, indices, strict=True)))
        return self.known[name]


def in_index_notation(closed: tuple[Equation, ...], point: Point) -> dict[tuple, mpmath.mpf]:
    """The rates by the closed equations themselves."""
    defined = {(e.symbol.family, len(e.indices)): e for e in definitions(closed) if not isinstance(e.value, Average)}
    known = {**point.overlaps(), **point.averages(), "beta": point.beta, "d": point.d}
    numbers = Numbers(point.p.size, point.q.size, known, defined)
    found = {}
    for e in closed:
        if e.symbol is None:
            family = e.label.partition("_")[0].removeprefix("d")
            sizes = [range(1, numbers.sizes[index.size] + 1) for index in e.indices]
            for indices in itertools.product(*sizes):
                found[family, *indices] = numbers.of(e.value, dict(zip(e.indices, indices, strict=True)))
    return found


def of_an_instance(setting, general: GeneralDerivation, point: Point) -> dict[tuple, mpmath.mpf]:
    """The rates by the equations of one setting, in its own symbols."""
    closed = Instance(setting, general).closed()
    table = {**point.overlaps(), **point.averages()}
    names = {key: name_of(setting, *key) for key in table}
    known = {names[key]: x for key, x in table.items()}
    for mixture, side in ((setting.proposal, point.q), (setting.target, point.p)):
        known |= {str(s): x for s, x in zip(mixture.scales, side.scales, strict=True)}
    defined = {(e.symbol.name, 0): e for e in definitions(closed) if e.symbol.name not in known}
    numbers = Numbers(point.p.size, point.q.size, {**known, "beta": point.beta, "d": point.d}, defined)
    by_label = {e.label: numbers.of(e.value, {}) for e in closed if e.symbol is None}
    wanted = rates(point, setting.manifold, setting.learn)
    labels = {(f, *i): f"d{name_of(setting, f, *(sorted(i) if f == 'Q' else i))}" for f, *i in wanted}
    assert set(by_label) == set(labels.values())
    return {key: by_label[label] for key, label in labels.items()}


def name_of(setting: Setting, family: str, *indices: int) -> str:
    return indexed_name(family, *([indices[:1], indices[1:]] if len(indices) == 3 else [indices]), apart=setting.apart)


def agree(found: Mapping[tuple, mpmath.mpf], wanted: Mapping[tuple, mpmath.mpf]) -> bool:
    assert set(found) == set(wanted)
    return all(abs(found[key] - x) <= BOUND * max(1, abs(x)) for key, x in wanted.items())


@pytest.mark.parametrize(("K", "L"), list(itertools.product((1, 2, 3), repeat=2)))
def test_the_closed_equations_are_the_retyped_ones_to_30_digits(K, L):
    point = Point(K, L)
    with mpmath.workdps(DIGITS):
        for manifold, learn in itertools.product(MANIFOLDS, LEARN):
            found = in_index_notation(general_of(manifold, learn).closed, point)
            assert agree(found, rates(point, manifold, learn)), (manifold, learn)


UNEQUAL = (1.25, 0.75, 1.25)
"""Scales of which two are equal."""


@pytest.mark.parametrize(("K", "L"), list(itertools.product((1, 2, 3), repeat=2)))
def test_the_instances_are_the_retyped_equations_to_30_digits(K, L):
    """Equal scales, and those of one mixture or of both unequal; where they are equal, sums of averages are known."""
    with mpmath.workdps(DIGITS):
        for q, p in itertools.product(("equal", "unequal"), repeat=2):
            scales = [(1.5,) * n if kind == "equal" else UNEQUAL[:n] for kind, n in ((q, L), (p, K))]
            point = Point(K, L, 0, *scales)
            for n, (manifold, learn) in enumerate(itertools.product(MANIFOLDS, LEARN)):
                if (q != p and n % 2) or (manifold == "euclidean" and "means" not in learn):
                    continue
                setting = symbolise(problem_of(K, L, manifold, learn, *scales)).setting
                found = of_an_instance(setting, general_derivation(setting), point)
                assert agree(found, rates(point, manifold, learn)), (q, p, manifold, learn)


@pytest.mark.parametrize(("K", "L"), [(10, 1), (1, 10)])
def test_more_than_nine_modes_or_components(K, L):
    """Beyond nine the indices of a name stand apart."""
    scales = (1.5,) * L, [0.5 + n / 10 for n in range(K)]
    setting = symbolise(problem_of(K, L, "sphere", ("means", "weights"), *scales)).setting
    with mpmath.workdps(DIGITS):
        point = Point(K, L, 0, *scales)
        found = of_an_instance(setting, general_derivation(setting), point)
        assert agree(found, rates(point, "sphere", setting.learn))


def rebuilt(e: sp.Basic, path: tuple[int, ...], new: sp.Basic) -> sp.Basic:
    if not path:
        return new
    args = list(e.args)
    args[path[0]] = rebuilt(args[path[0]], path[1:], new)
    return e.func(*args)


def places(e: sp.Basic, path: tuple[int, ...] = (), bound: tuple[Index, ...] = ()) -> Iterator[tuple]:
    """Every subexpression with its path and the indices that are bound there; an entry is one expression."""
    yield e, path, bound
    if isinstance(e, Sum):
        yield from places(e.term, (*path, 0), (*bound, e.index))
    elif not isinstance(e, Entry):
        for n, part in enumerate(e.args):
            yield from places(part, (*path, n), bound)


SCALED = (("doubled", 2), ("dropped", 0), ("of other sign", -1))


def mutants(equation: Equation) -> Iterator[tuple[str, Equation]]:
    """The equation with one part doubled, dropped or of other sign, or with one index in a sum exchanged.

    A part is the whole, or a term at any depth. In an entry within a sum a bound index becomes another index of its
    range, free or bound.
    """
    value = equation.value
    for e, path, bound in places(value):
        terms = e.args if e.is_Add else (e,) if not path else ()
        for n, term in enumerate(terms):
            for what, factor in SCALED:
                changed = sp.Add(*terms[:n], *terms[n + 1 :]) + factor * term
                yield f"{equation.label}: {term} {what}", replace(equation, value=rebuilt(value, path, changed))
        if isinstance(e, Entry):
            for m, index in ((m, index) for m, index in enumerate(e.indices) if index in bound):
                for other in (*equation.indices, *bound):
                    if other.size == index.size and other != index:
                        swapped = type(e)(e.family, *e.indices[:m], other, *e.indices[m + 1 :])
                        wrong = rebuilt(value, path, swapped)
                        yield f"{equation.label}: {e} as {swapped}", replace(equation, value=wrong)


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_every_mutant_of_a_closed_equation_is_caught(manifold):
    """A mutant that is the same sum in another form, as with M_im for M_ik in a sum that is symmetric, is none."""
    learn, point = LEARN[-1], Point(2, 3)
    closed = general_of(manifold, learn).closed
    survivors, tried = [], 0
    with mpmath.workdps(DIGITS):
        wanted = rates(point, manifold, learn)
        for n, equation in enumerate(closed):
            for name, wrong in mutants(equation) if not isinstance(equation.value, Average) else ():
                tried += 1
                found = in_index_notation((*closed[:n], wrong, *closed[n + 1 :]), point)
                if agree(found, wanted) and not equal(wrong.value, equation.value):
                    survivors.append(name)
    assert tried > 150
    assert survivors == []


def test_a_mutant_of_each_closed_equation_is_rejected_by_the_kl_on_a_grid(monkeypatch):
    """The grid knows nothing of the derivation. Each mutant goes through all scalar steps to a system."""
    right = derive_problem(
        Problem(
            target=Target((0.6, 0.4), ((1.2,), (-0.7,)), (1.0, 0.8)),
            proposal=Proposal((0.3, 0.7), (1.1, 0.9)),
            flow=Flow("euclidean", LEARN[-1]),
            space=Space(1),
        )
    )
    state, evaluator = reference(right, 1, 0), Evaluator()

    def off(derivation: Derivation) -> float:
        return np.abs(evaluator.rates_or_nan(derivation.system, state.numbers) - state.rates).max()

    assert off(right) <= state.bound + evaluator.uncertainty
    closed, tried = right.general.closed, []
    for n, equation in enumerate(closed):
        if not isinstance(equation.value, Average):
            name, wrong = next((name, wrong) for name, wrong in mutants(equation) if name.endswith("of other sign"))
            general = replace(right.general, closed=(*closed[:n], wrong, *closed[n + 1 :]))
            monkeypatch.setattr(derivation_module, "general_derivation", lambda setting, general=general: general)
            mutant = apply_rules.__wrapped__(right.setting, right.geometry)
            assert not off(mutant) <= 1e6 * state.bound, name
            tried.append(equation.label)
    rates_and_slopes = {"dM_in", "dQ_in", "D_in", "dw_i", "dsigma_i"}
    assert set(tried) == rates_and_slopes | {"share_ij", "share_star_ik", "e_i", "e_mean"}


def velocity_of(integrand: sp.Expr, manifold: str) -> sp.Expr:
    """The general velocity of a mean for the objective E_q[integrand]."""
    general = apply_general_rules(MixtureExpectation(integrand, POINT, PROPOSAL), manifold, ("means",))
    named = {e.symbol.family: e for e in general.steps[-2].after if e.symbol is not None}

    def written_out(share: Entry) -> sp.Expr:
        equation = named[share.family]
        return equation.value.xreplace(dict(zip(equation.indices, share.indices, strict=True)))

    value = general.velocities[0].value
    shares = [e for e in value.atoms(Entry) if e.family.startswith("share")]
    return value.xreplace({share: written_out(share) for share in shares})


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_the_entropy_and_the_energy_add_up(manifold):
    """Without log q no other mean pulls, without log p* no mode does, and both together are the whole velocity."""
    entropy, energy = LogDensity(PROPOSAL, POINT), -BETA * LogDensity(TARGET, POINT)
    whole, repulsion, attraction = (velocity_of(f, manifold) for f in (entropy + energy, entropy, energy))
    assert not repulsion.has(BETA)
    assert not any(e.family.endswith("_star") or e.family == "nu" for e in repulsion.atoms(Entry))
    assert {e.indices for e in attraction.atoms(Entry) if e.family == "a"} <= {(I,)}
    assert attraction.has(BETA)
    assert equal(whole, repulsion + attraction)
    assert not equal(whole, attraction)
    assert not equal(whole, repulsion)


def test_the_sphere_projects_the_euclidean_velocity():
    a = PROPOSAL.mean(I)
    sphere, euclidean = (general_of(manifold).velocities[0].value for manifold in ("sphere", "euclidean"))
    shortened = map_atoms(euclidean, lambda v: v - Inner(v, a) / Inner(a, a) * a)
    assert equal(sphere, shortened)
    assert not equal(sphere, euclidean)


def test_the_sphere_keeps_every_length_for_any_k_and_l():
    for manifold in MANIFOLDS:
        (pull,) = (e.value for e in general_of(manifold).closed if e.label == "D_in")
        assert equal(pull.xreplace({OTHER: I}), sp.S.Zero) == (manifold == "sphere")


def test_resting_means_have_no_rate():
    general = general_of("euclidean", ("weights", "scales"))
    assert general.velocities == ()
    assert [e.value for e in general.closed if e.label in ("dM_in", "dQ_in")] == [0, 0]
    assert not any(e.label.startswith(("D_", "share")) for e in general.closed)
