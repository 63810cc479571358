"""Every public check of `annealvi.verification` fails for a wrong object, and where there is nothing to compare."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import mpmath
import numpy as np
import pytest
import sympy as sp
from derived_limits import limits
from given_steps import with_steps

import annealvi
import annealvi.verification
from annealvi.session.session import Session
from annealvi.verification import against_particles, cuda_against_cpu, kernel_numbers, kl_gradient
from annealvi.verification.against_particles import SETTINGS, PathComparison, VelocityComparison
from annealvi.verification.beside import Beside
from annealvi.verification.check import Check
from annealvi.verification.corners import corner_checks
from annealvi.verification.derivation_steps import derivation_checks, system_check
from annealvi.verification.every_check import Verification
from annealvi.verification.limit_identities import limit_checks
from annealvi.verification.limit_numbers import identity
from annealvi.verification.protected_pair import hold_checks
from annealvi.verification.symbolic_beside import Task, found_by, start_symbolic
from annealvi.verification.theory import Theory, checked_theory
from derive.asymptotics.hold_and_quench import protected_pair
from derive.asymptotics.linear_stability import bimodal_stability
from derive.checks.concrete import Meaning
from derive.checks.step_check import check_step, sample_point
from derive.dynamics.derivation import Derivation
from derive.objects.step import Step

OFF = sp.Rational(1001, 1000)


@cache
def session(name: str = "one-component") -> Session:
    return annealvi.open_session(annealvi.load_problem(name, ["space.dimension=32"]))


def off(derivation: Derivation) -> Derivation:
    """The derivation with the first state's rate wrong in the third digit."""
    system = derivation.system
    return replace(derivation, system=replace(system, rhs=(system.rhs[0] * OFF, *system.rhs[1:])))


def still(derivation: Derivation) -> Derivation:
    """The derivation with a system in which nothing moves; such a system has no mutant."""
    system = derivation.system
    return replace(derivation, system=replace(system, rhs=(sp.S.Zero,) * len(system.rhs), subexpressions=()))


def wrong_step(factor: sp.Expr) -> Step:
    step = session().derivation.steps[-1]
    return replace(step, after=tuple(replace(e, value=e.value * factor) if e.symbol is None else e for e in step.after))


@cache
def references(dimension: int = 2) -> tuple[kl_gradient.Reference, ...]:
    return tuple(kl_gradient.references(session().problem, (dimension,), 1))


def of_the_grid(derivation: Derivation, states: tuple[kl_gradient.Reference, ...]) -> list[Check]:
    here = session()
    return [
        c for c in kl_gradient.grid_checks(here.problem, derivation, list(states), here.values) if isinstance(c, Check)
    ]


def of_kernels(mistaken) -> list[Check]:
    """The check of kernels that are generated from the wrong derivation."""
    compiled = Session.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Session,
            "compile",
            lambda self, *given: compiled(replace(self, derivation=mistaken(self.derivation)), *given),
        )
        return list(kernel_numbers.kernel_checks(session(), "cpu"))


def of_worst_state(tolerance: float, mistaken) -> list[Check]:
    """The check of a loose kernel that is generated from the wrong derivation, with tables for the given tolerance."""
    compiled = Session.compile

    def compile_wrong(self, device, asked):
        loose = asked == kernel_numbers.LOOSE_TOLERANCE
        return (
            compiled(replace(self, derivation=mistaken(self.derivation)), device, tolerance)
            if loose
            else compiled(self, device, asked)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "compile", compile_wrong)
        return [kernel_numbers.worst_state_check(session())]


def of_order(slope: float) -> list[Check]:
    """The check of an integrator whose error falls with the given power of the number of steps."""
    errors = 1e-10 * (np.array(kernel_numbers.ORDER_STEPS) / kernel_numbers.ORDER_STEPS[0]) ** -slope
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_numbers, "_fixed_step_errors", lambda *given: errors)
        return [kernel_numbers.order_check(session())]


class Said:
    """A process that has ended with the given output and exit status."""

    def __init__(self, said: str, status: int) -> None:
        self.done = subprocess.CompletedProcess("", status, said.encode(), b"no")

    def answer(self, timeout: float) -> subprocess.CompletedProcess:
        return self.done


def of_cuda(said: str, status: int = 0) -> list[Check]:
    """The check of a device whose process gives this output and exit status."""
    return [cuda_against_cpu.cuda_check("a device", Said(said, status))]


def of_velocity(difference: float, error: float = 1e-3, derivation: Derivation | None = None) -> list[Check]:
    """The check of a rate for which particles give a value that is larger by `difference`."""
    rate = np.array([0.2])
    found = VelocityComparison(np.array([0.3]), rate, rate + difference, np.array([error]), "cpu")
    return list(
        against_particles.velocity_checks(replace(session(), derivation=derivation or session().derivation), found)
    )


def of_paths(z: float, times: int = 12, error: float = 1e-3) -> list[Check]:
    """The check of a path on which the particles are off by z standard errors."""
    ode, many = np.zeros((times + 1, 1)), np.full((times, 1), z)
    t = np.linspace(0.0, SETTINGS[0].t_end, times + 1)
    path = PathComparison(SETTINGS[0], t, ode, ode, np.full_like(ode, error), ode, ode, many, t, ode, "cpu")
    return list(against_particles.path_checks([path]))


def named(checks: Iterable[tuple[str, Check]]) -> Iterator[Check]:
    return (check for _, check in checks)


def of_theory(derivation: Derivation) -> list[Check]:
    """The theory's checks without those of the limits.

    The limits take long, and they are derived from the system itself, so that no system could fail them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("annealvi.verification.theory.limit_checks", lambda limits: ())
        found = checked_theory(derivation)
    assert isinstance(found, Theory)
    return list(found.checks.values())


def bimodal() -> Derivation:
    return session("bimodal").derivation


def without_repulsion(derivation: Derivation) -> Derivation:
    """A system of the bimodal case to which the steps do not lead: half the repulsion."""
    system = derivation.system
    g = next(symbol for symbol, _ in system.subexpressions if symbol.name == "g")
    return replace(derivation, system=replace(system, rhs=tuple(rate.subs(g, g / 2) for rate in system.rhs)))


RIGHT_AND_WRONG = {
    "derivation_checks": (
        lambda: derivation_checks(with_steps(session().derivation, session().derivation.steps[-1])),
        {
            "a wrong step": lambda: derivation_checks(with_steps(session().derivation, wrong_step(OFF))),
            "no number": lambda: derivation_checks(with_steps(session().derivation, wrong_step(sp.nan))),
            "no step": lambda: derivation_checks(with_steps(session().derivation)),
        },
    ),
    "system_check": (
        lambda: [system_check(session().derivation)],
        {
            "a wrong rate": lambda: [system_check(off(session().derivation))],
            "no definitions": lambda: [system_check(still(session().derivation))],
            "no step": lambda: [system_check(with_steps(session().derivation))],
        },
    ),
    "grid_checks": (
        lambda: of_the_grid(session().derivation, (*references(), *references(3))),
        {"no state": lambda: of_the_grid(session().derivation, references())},
    ),
    "mutant_check": (
        lambda: [kl_gradient.mutant_check(session().derivation, list(references()))[0]],
        {
            "no state": lambda: [kl_gradient.mutant_check(session().derivation, [])[0]],
            "no mutant": lambda: [kl_gradient.mutant_check(still(session().derivation), list(references()))[0]],
        },
    ),
    "kernel_checks": (lambda: of_kernels(lambda right: right), {"a kernel of another system": lambda: of_kernels(off)}),
    "worst_state_check": (
        lambda: [kernel_numbers.worst_state_check(session())],
        {
            "a table that was made for less": lambda: of_worst_state(1e-7, lambda right: right),
            "a kernel of another system": lambda: of_worst_state(kernel_numbers.LOOSE_TOLERANCE, off),
        },
    ),
    "order_check": (
        lambda: of_order(8),
        {
            "one order less": lambda: of_order(7),
            "no number": lambda: of_order(np.nan),
            "too small to measure": lambda: of_order(30),
        },
    ),
    "cuda_check": (
        lambda: of_cuda('{"ode": 1e-15, "particles": 1e-14}'),
        {
            "rates differ": lambda: of_cuda('{"ode": 1e-9, "particles": 1e-14}'),
            "particles differ": lambda: of_cuda('{"ode": 1e-15, "particles": NaN}'),
            "the process failed": lambda: of_cuda("", 1),
        },
    ),
    "velocity_checks": (
        lambda: of_velocity(0.0),
        {
            "another velocity": lambda: of_velocity(0.01),
            "nothing known of any": lambda: of_velocity(0.0, error=0.0),
            "no mutant": lambda: of_velocity(0.0, derivation=still(session().derivation)),
        },
    ),
    "path_checks": (
        lambda: of_paths(1.0),
        {
            "another path": lambda: of_paths(8.0),
            "too few times": lambda: of_paths(1.0, times=2),
            "nothing moves": lambda: of_paths(0.0, error=0.0),
            "no number": lambda: of_paths(np.nan),
        },
    ),
    "identity": (
        lambda: [identity("x", [(sp.S.One, sp.S.One)])],
        {"unequal sides": lambda: [identity("x", [(OFF, sp.S.One)])], "no sides": lambda: [identity("x", [])]},
    ),
    "limit_checks": (
        None,
        {
            "a wrong limit": lambda: named(
                limit_checks(
                    replace(limits(), path=replace(limits().path, velocity=(OFF, *limits().path.velocity[1:])))
                )
            )
        },
    ),
    "corner_checks": (
        None,
        {
            "another system": lambda: named(
                corner_checks(without_repulsion(bimodal()).system, bimodal_stability(bimodal()))
            )
        },
    ),
    "hold_checks": (
        None,
        {
            "a wrong pair": lambda: named(
                hold_checks(
                    limits(), replace(protected_pair(limits().path), damping=protected_pair(limits().path).growth)
                )
            )
        },
    ),
    "checked_theory": (
        None,
        {"a system that is not what the steps lead to": lambda: of_theory(without_repulsion(bimodal()))},
    ),
}
"""For each function its checks of a right object (None where another test has them), and those of wrong objects.

A test below gives `grid_checks` a wrong system.
"""


@pytest.mark.quick
def test_no_public_check_is_left_out():
    """The public checks are the functions of `annealvi.verification` that are annotated to return checks."""
    found = set()
    for module in pkgutil.iter_modules(annealvi.verification.__path__, "annealvi.verification."):
        if module.name != "annealvi.verification.cuda_twin":  # this module is a program
            for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                own = function.__module__ == module.name and not name.startswith("_")
                if own and any(given in function.__annotations__["return"] for given in ("Check", "Theory")):
                    found.add(name)
    assert found == set(RIGHT_AND_WRONG)


@pytest.mark.parametrize(
    ("name", "right"), [(name, right) for name, (right, _) in RIGHT_AND_WRONG.items() if right is not None]
)
def test_what_is_right_passes(name, right):
    checks = list(right())
    assert checks
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(make, id=f"{name}: {what}")
        for name, (_, wrong) in RIGHT_AND_WRONG.items()
        for what, make in wrong.items()
    ],
)
def test_what_is_wrong_fails(wrong):
    assert any(not check.passed for check in wrong())


def test_the_grid_judges_the_system_that_it_is_given():
    """The grid rejects a wrong system, while the checks that derive the system anew pass and say so in their names."""
    failed = {
        check.name: not check.passed
        for check in of_the_grid(off(session().derivation), (*references(), *references(3)))
    }
    assert list(failed.values()) == ["derived anew" not in name for name in failed]
    assert len(failed) == 4
    check, _ = kl_gradient.mutant_check(off(session().derivation), list(references()))
    assert "true system" in check.note


def test_the_device_is_given_the_sessions_own_system():
    given = {}
    mistaken = replace(session(), derivation=off(session().derivation))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cuda_against_cpu, "Beside", lambda program, session, environment: given.update({program: session})
        )
        cuda_against_cpu.start_twin(mistaken)
    assert str(given["cuda_twin"].derivation.system.rhs) == str(mistaken.derivation.system.rhs)


def test_another_process_checks_the_derivation_that_it_is_given():
    """The other process checks the steps and the limits of its system; an error raised there is raised here."""
    steps = (*session().derivation.steps[-1:], wrong_step(OFF))
    with start_symbolic(Task(with_steps(session().derivation, *steps), session().derivation)) as program:
        found = found_by(program)
    assert [check.passed for check in found.steps] == [True, False]
    assert found.steps[:1] == list(derivation_checks(with_steps(session().derivation, steps[0])))
    assert found.theory == checked_theory(session().derivation)
    nothing_shared = replace(session().derivation.steps[-1], after=())
    with (
        start_symbolic(Task(with_steps(session().derivation, nothing_shared), None)) as program,
        pytest.raises(ValueError, match="no equation stands on both sides"),
    ):
        found_by(program)


def test_a_process_ends_with_the_block_that_it_is_used_in():
    with Beside("symbolic_beside", Task(session().derivation, None)) as program:
        pass
    assert program.answer().returncode != 0
    with pytest.raises(RuntimeError, match="the process that checks the derivation failed"):
        found_by(program)


@pytest.mark.quick
def test_a_step_that_is_compared_at_no_point_does_not_hold():
    found = check_step(session().derivation.steps[0], [])
    assert not found.passed
    assert not found.difference < np.inf


def test_a_difference_that_is_no_number_is_not_passed_over():
    here = session().derivation
    meaning = Meaning(sample_point(here, 2, 0, True))
    found = check_step(wrong_step(sp.nan), [meaning])
    assert mpmath.isnan(found.difference)
    assert not found.passed


@pytest.mark.quick
def test_a_verification_without_checks_is_not_passed():
    assert not Verification("", "", (), (), (), None, (), 0.0).passed
