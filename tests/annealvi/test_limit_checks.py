"""The checks of limits, corners and holds.

All of them pass, and each fails where its subject is wrong in the third digit or in a term.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import sympy as sp
from derived_limits import limits

import annealvi
from annealvi.verification.corners import corner_checks
from annealvi.verification.limit_identities import IDENTITIES, limit_checks
from annealvi.verification.limit_numbers import Numbers, identity
from annealvi.verification.protected_pair import hold_checks
from derive.asymptotics.hold_and_quench import Pair, protected_pair
from derive.asymptotics.linear_stability import BimodalStability, Linearisation, bimodal_stability
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.system import BETA

OFF = sp.Rational(1001, 1000)


@cache
def stability() -> tuple[sp.Basic, BimodalStability]:
    derivation = derive_problem(annealvi.load_problem("bimodal"))
    return derivation.system, bimodal_stability(derivation)


def path(**changed):
    return replace(limits(), path=replace(limits().path, **changed))


def hot(**changed):
    return replace(limits(), hot=replace(limits().hot, **changed))


def slow(**changed):
    return replace(limits(), slow=replace(limits().slow, **changed))


def off(values: tuple, which: int) -> tuple:
    return tuple(value * OFF if n == which else value for n, value in enumerate(values))


SPOILED = {
    "overlap on the symmetric path": [lambda: path(velocity=off(limits().path.velocity, 0))],
    "similarity on the symmetric path": [lambda: path(velocity=off(limits().path.velocity, 1))],
    "transverse growth": [lambda: path(transverse=limits().path.transverse * OFF)],
    "longitudinal growth": [lambda: path(longitudinal=limits().path.longitudinal * OFF)],
    "onset of tearing": [lambda: path(critical_beta=limits().path.critical_beta * OFF)],
    "conserved u_1": [
        lambda: hot(conserved=(3 * limits().hot.conserved[0], limits().hot.conserved[1])),
        lambda: hot(conserved=(limits().hot.conserved[1], limits().hot.conserved[1])),
    ],
    "conserved u_2": [
        lambda: hot(conserved=(limits().hot.conserved[0], -limits().hot.conserved[1])),
        lambda: hot(conserved=off(limits().hot.conserved, 1)),
    ],
    "relaxation of the angle": [lambda: hot(relaxation=limits().hot.relaxation * OFF)],
    "drift of u_1": [lambda: hot(drift=off(limits().hot.drift, 0)), lambda: hot(drift=limits().hot.drift[::-1])],
    "drift of u_2": [lambda: hot(drift=off(limits().hot.drift, 1))],
    "quasi-static path": [
        lambda: slow(similarity=limits().slow.similarity * OFF),
        lambda: slow(beta=limits().slow.beta * OFF),
    ],
    "growth on it": [lambda: slow(growth=limits().slow.growth * OFF)],
    "its Jacobian": [
        lambda n=n: slow(jacobian=sp.ImmutableMatrix(2, 2, off(tuple(limits().slow.jacobian), n))) for n in range(4)
    ],
}


def test_all_pass_and_four_are_left_to_other_tests():
    checks = dict(limit_checks(limits()))
    left_out = set(limits().latex()) - set(checks)
    assert left_out == {f"{u} along the relaxation" for u in ("u_1", "u_2")} | {
        f"{y} under a slow schedule" for y in ("m", "s")
    }
    assert all(check.passed for check in checks.values())


def test_every_identity_has_a_spoiled_form():
    assert set(SPOILED) == set(IDENTITIES)


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, forms in SPOILED.items() for n in range(len(forms))])
def test_a_wrong_identity_fails(name, n):
    assert not identity(name, IDENTITIES[name](Numbers(SPOILED[name][n]()))).passed


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_no_number_fails(order):
    assert not identity("x", [(sp.nan, sp.S.One), (sp.S.One, sp.S.One)][::order]).passed


def test_wrong_growths_and_expansions_fail():
    spoiled = tuple(replace(e, expression=e.expression * OFF) for e in limits().expansions)
    fields = ("exponent", "crossing")
    growth = tuple(
        replace(g, **{fields[n % 2]: getattr(g, fields[n % 2]) * OFF}) for n, g in enumerate(limits().growth)
    )
    wrong = dict(limit_checks(replace(limits(), growth=growth, expansions=spoiled)))
    failed = {name for name, check in wrong.items() if not check.passed}
    assert failed == {f"hot growth, {g.kind}" for g in growth} | {e.name for e in spoiled if e.name in wrong}


def corner_failures(wrong: BimodalStability) -> set[str]:
    return {name for name, check in corner_checks(stability()[0], wrong) if not check.passed}


def test_corners_pass():
    assert corner_failures(stability()[1]) == set()


def swapped(corner: Linearisation) -> sp.ImmutableMatrix:
    w_1, w_2 = sorted((s for s in corner.matrix.free_symbols if s.name.startswith("w_")), key=lambda s: s.name)
    return corner.matrix.xreplace({w_1: w_2, w_2: w_1})


@pytest.mark.parametrize("name", ["collapsed", "mixed", "separated"])
@pytest.mark.parametrize("spoil", [swapped, lambda corner: corner.matrix * OFF])
def test_a_wrong_matrix_fails(name, spoil):
    corner = getattr(stability()[1], name)
    wrong = replace(stability()[1], **{name: replace(corner, matrix=spoil(corner))})
    assert f"{name}-matrix" in corner_failures(wrong)


class WrongDeterminant(Linearisation):
    @property
    def determinant(self) -> sp.Expr:
        return super().determinant + BETA / 1000


@pytest.mark.parametrize("name", ["collapsed", "mixed", "separated"])
def test_a_wrong_determinant_fails(name):
    corner = getattr(stability()[1], name)
    wrong = WrongDeterminant(corner.name, corner.state, corner.matrix, corner.averages, corner.conditions)
    assert corner_failures(replace(stability()[1], **{name: wrong})) == {f"{name}-determinant"}


def pair() -> Pair:
    return protected_pair(limits().path)


def hold_failures(wrong: Pair) -> set[str]:
    return {name for name, check in hold_checks(limits(), wrong) if not check.passed}


class WrongSlope(Pair):
    def switching_slope(self) -> sp.Expr:
        return super().switching_slope() * OFF


@pytest.mark.parametrize(
    ("wrong", "failed"),
    [
        (lambda: pair(), set()),
        (lambda: replace(pair(), drift=pair().drift * OFF), {"protected-sum", "switching-slope"}),
        (lambda: replace(pair(), growth=pair().growth * BETA), {"protected-difference"}),
        (lambda: replace(pair(), damping=pair().damping * OFF), {"protected-sum", "switching-slope"}),
        (lambda: replace(pair(), growth=pair().growth * OFF), {"protected-difference"}),
        (lambda: WrongSlope(pair().drift, pair().damping, pair().growth), {"switching-slope"}),
    ],
)
def test_what_is_said_of_holds_passes_and_fails_where_it_is_wrong(wrong, failed):
    assert hold_failures(wrong()) == failed
