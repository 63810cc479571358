"""The generated kernels against mpmath, and the integrator's order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import sympy as sp

from annealvi.collapse.ensemble import AVERAGES
from annealvi.session.session import Session
from annealvi.verification.check import Check
from annealvi.verification.evaluator import Evaluator
from derive.objects.expectation import Expectation
from derive.objects.states import StateKind
from derive.objects.system import BETA
from derive.problem.schedules import make_schedule
from derive.problem.specification import ScheduleSpec, Space
from kernels.integrate.errors import IntegrationError
from kernels.integrate.kernel import Kernel

TOLERANCE = 1e-12
COARSE_TOLERANCE = 5e-10
"""Tolerance of averages over three variables and more; the reference rule takes seconds to reach it."""
WORST_ERROR = 1e-4
"""The largest measured error of quasi-random averages that is accepted, so that rates are of use to a trajectory."""
COLD = ScheduleSpec("exponential", 1.0, 1.0)
"""β = 1 at all times, in the formula of the study's own schedule, so that kernels of one formula serve all checks."""
STATES = 12
ORDER_STEPS = (4, 5, 6, 7, 8)
LONGEST_SPAN = 16.0
"""Longest time span, in units of the flow's shortest time: four steps over it are as long as stability allows."""


def under(session: Session, schedule: ScheduleSpec) -> Session:
    """The same session under another schedule. Right-hand sides are given β, so that any schedule serves them."""
    return dataclasses.replace(session, schedule=make_schedule(schedule))


def kernel_checks(session: Session, device: str) -> Iterator[Check]:
    """Compare kernels with mpmath, for each lowering of the averages, at random states and inverse temperatures.

    The states are drawn in R⁴, where overlaps of every size occur, and learned covariances are random.
    """
    session = under(session, COLD)
    system = session.derivation.system
    widest = session.derivation.system.widest_average
    count, tolerance = (STATES, TOLERANCE) if widest <= 2 else (2, COARSE_TOLERANCE)
    states = with_random_covariances(session, _of_every_size(session).random_states(count, seed=7), seed=7)
    betas = np.linspace(0.05, 1.0, count)
    numbers = {s: sp.Float(v, 30) for s, v in session.values.items()}
    evaluator = Evaluator()
    exact, uncertainty = [], 0.0
    for beta, y in zip(betas, states, strict=True):
        at = {BETA: sp.Float(beta, 30)} | {s: sp.Float(x, 30) for s, x in zip(system.states, y, strict=True)}
        exact.append(evaluator.rates(system, {**numbers, **at}))
        uncertainty = max(uncertainty, evaluator.uncertainty)
    scale = max(1.0, float(np.abs(exact).max()))
    ways = [("proxy", tolerance), ("quadrature", tolerance)]
    for expectations, accuracy in [*ways, ("proxy", AVERAGES)] if widest > 1 else ways:
        kernel = session.compile(device, accuracy, expectations)
        if expectations == "proxy" and not kernel.tables.has_series:
            continue
        got = np.array([kernel.rhs_at_beta(beta, y[None])[0] for beta, y in zip(betas, states, strict=True)])
        how = expectations if accuracy == tolerance else f"{expectations} to {accuracy:g}, as for ensembles"
        name = f"kernel against {'mpmath' if widest <= 1 else 'another rule'} ({how})"
        error = min(WORST_ERROR, max(accuracy, kernel.average_error))
        note = (
            f"{count} states; an average's measured error is {error:.1g}, a rate has some ten with "
            f"factors of order one; {kernel.device}"
        )
        yield Check(name, "numeric", float(np.abs(got - exact).max()) / scale, 20 * error + uncertainty / scale, note)


STRETCH = 0.3
"""Random covariances are F C Fᵀ for a start C, where F differs by so much from the identity in each entry."""


def with_random_covariances(session: Session, states: np.ndarray, seed: int) -> np.ndarray:
    """The states (n, states) with random covariances where these are learned; at a start they may all be equal."""
    entries = session.positions_of(StateKind.COVARIANCE)
    if not entries:
        return states
    own = np.array(session.problem.component_covariances)
    factors = np.random.default_rng(seed).uniform(-STRETCH, STRETCH, (len(states), *own.shape)) + np.eye(own.shape[-1])
    matrices = factors @ own @ factors.swapaxes(-2, -1)
    upper = np.triu_indices(own.shape[-1])
    changed = states.copy()
    changed[:, entries] = matrices[..., upper[0], upper[1]].reshape(len(states), -1)
    return changed


LOOSE_TOLERANCE = 1e-9
SEARCHED, CLIMBS = 2000, 8
ROUNDING = 1e-13
"""Rounding error of a rate, relative to one or to itself."""


def worst_state_check(session: Session) -> Check | str:
    """Check that averages keep their tolerance at the worst state that a search finds.

    The error that is measured when a table is made belongs to a few states; other states can exceed it. So a loose
    kernel is compared with one that is a thousand times more accurate. The worst state is the one where the difference
    of a rate is the largest share of the error that the two tolerances allow. The search starts at random states and
    at the corners, where every mean is at a mode. It continues at states between the worst state and the others, nearer
    and nearer to the worst; all states between two Gram matrices are Gram matrices too. If averages run over several
    variables, their errors are relative to the averages' sizes, nothing is searched, and a line says so.
    """
    if session.derivation.system.widest_average > 1:
        return "kernel at its worst state: not searched, since averages run over several variables"
    session = under(session, COLD)
    loose, tight = (session.compile("cpu", tolerance) for tolerance in (LOOSE_TOLERANCE, TOLERANCE))
    sensitivity, error = _sensitivity(session), LOOSE_TOLERANCE + TOLERANCE
    states = np.concatenate([_of_every_size(session).random_states(SEARCHED, seed=13), _corners(session)])
    worst, largest, compared = states[0], 0.0, 0
    for step in [1.0, *0.5 ** np.arange(CLIMBS)]:
        near = worst + step * (states - worst)
        exact = tight.rhs_at_beta(1.0, near)
        allowed = sensitivity(near) * error + ROUNDING * np.maximum(1.0, np.abs(exact))
        shares = (np.abs(loose.rhs_at_beta(1.0, near) - exact) / allowed).max(axis=1)
        compared += len(near)
        n = int(np.argmax(shares))  # argmax finds a NaN first
        if not shares[n] <= largest:
            worst, largest = near[n], float(shares[n])
    measured = f"{largest * error:.1g}, where {loose.average_error:.1g} was measured when the tables were made"
    note = (
        f"share of the tolerance {LOOSE_TOLERANCE:g}, at the worst of {compared} states; an "
        f"average is off by {measured}; cpu"
    )
    return Check("kernel at its worst state", "numeric", largest, 1.0, note)


def _sensitivity(session: Session) -> Callable[[np.ndarray], np.ndarray]:
    """The change of each rate per error of the averages at β = 1, as a function of states (n, states)."""
    system = session.derivation.system
    averages: dict[sp.Expr, sp.Symbol] = {}
    known: dict[sp.Symbol, sp.Expr] = {}
    for symbol, expression in system.subexpressions:
        for average in expression.atoms(Expectation):
            averages.setdefault(average, sp.Dummy(real=True))
        known[symbol] = expression.xreplace(averages).xreplace(known)
    rates = [rate.xreplace(known).xreplace({**session.values, BETA: sp.S.One}) for rate in system.rhs]
    slopes = [sp.Add(*(sp.Abs(sp.diff(rate, average)) for average in averages.values())) for rate in rates]
    function = sp.lambdify(system.states, slopes, "numpy")  # no average is left, since rates are linear in them
    return lambda states: np.stack(
        [np.broadcast_to(np.asarray(x, float), len(states)) for x in function(*states.T)], axis=1
    )


def _corners(session: Session) -> np.ndarray:
    """Up to a hundred states at which every mean has the direction of a mode or the opposite one."""
    lengths = np.linalg.norm(session.modes(), axis=1)
    directions = [
        sign * mode / length
        for mode, length in zip(session.modes(), lengths, strict=True)
        if length > 0
        for sign in (1, -1)
    ]
    radii = np.array(session.problem.proposal.radii)[:, None]
    chosen = itertools.islice(itertools.product(directions, repeat=len(radii)), 100)
    means = np.array([radii * np.array(row) for row in chosen])
    return session.states_of_vectors(means) if len(means) else np.empty((0, len(session.state_names)))


def order_check(session: Session) -> Check | str:
    """Measure by how much the order of the fixed-step error falls short of 8, at β = 1, where the flow is fastest.

    A wrong coefficient costs a whole order. A steeper slope is no defect: at the steps that double precision allows,
    terms of higher order may still contribute. They do not in the study's own case, where a test holds the slope to 8
    from both sides. If averages run over three variables, the order is not measured, and a line says so.
    """
    if session.derivation.system.widest_average > 2:
        return (
            "order of the integrator: not measured, since averages over three variables at full "
            "precision would take minutes"
        )
    here = under(session, COLD)
    kernel = here.compile("cpu")
    states = _of_every_size(here).random_states(8, seed=3)
    scale = float(np.abs(states).max())
    errors = np.full(len(ORDER_STEPS), np.inf)
    longest = LONGEST_SPAN / max(fastest_rate(kernel, 1.0, y) for y in states)
    # The span is shortened until the largest error is so small that its leading term dominates.
    for span in longest / 2.0 ** np.arange(0, 8, 0.25):
        with suppress(IntegrationError):  # too long steps leave the domain
            errors = _fixed_step_errors(kernel, states, np.array([0.0, span]))
        if errors[0] < 3e-10 * scale:
            break
    if not 1e-14 * scale < errors[-1] < errors[0] < 3e-10 * scale:  # otherwise rounding decides the slope
        errors = np.full(len(ORDER_STEPS), np.nan)
    slope = float(-np.polyfit(np.log(ORDER_STEPS), np.log(errors), 1)[0]) if np.isfinite(errors).all() else float("nan")
    note = f"measured order {slope:.2f} of DOP853's 8; errors {errors[0]:.1e} to {errors[-1]:.1e}"
    return Check(
        "order of the integrator, short of 8 by",
        "numeric",
        max(8 - slope, 0.0) if np.isfinite(slope) else slope,
        0.5,
        note,
    )


def fastest_rate(kernel: Kernel, beta: float, y: np.ndarray) -> float:
    """The largest modulus of the Jacobian's eigenvalues, by central differences."""
    steps = 1e-5 * np.maximum(np.abs(y), 1.0)
    moved = np.concatenate([y + np.diag(steps), y - np.diag(steps)])
    rates = kernel.rhs_at_beta(beta, moved)
    jacobian = (rates[: len(y)] - rates[len(y) :]).T / (2 * steps)
    return float(np.abs(np.linalg.eigvals(jacobian)).max())


def _fixed_step_errors(kernel: Kernel, states: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Root-mean-square error at the end of the span, for each of ORDER_STEPS.

    The reference is the adaptive integrator at its tightest tolerance.
    """
    reference = kernel.integrate(states, times, rtol=1e-13, atol=1e-15).y[:, -1]
    finals = [kernel.integrate(states, times, fixed_steps=n).y[:, -1] for n in ORDER_STEPS]
    return np.array([np.sqrt(np.mean((final - reference) ** 2)) for final in finals])


def _of_every_size(session: Session) -> Session:
    """The same session in R⁴, where random overlaps are of every size."""
    return dataclasses.replace(
        session, problem=dataclasses.replace(session.problem, space=Space(max(4, session.problem.target.coordinates)))
    )
