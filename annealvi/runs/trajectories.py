"""Paths of the summary statistics: by the derived equations (`integrate`) and by particles in d dimensions
(`simulate`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.outcome import nearest_modes
from annealvi.runs.adaptive import SETTLING, integrate_with_rule, simulate_with_rule
from annealvi.runs.costs import cost_of_integration, cost_of_particles, require_affordable, stopped_in_time
from annealvi.runs.paths import (
    FASTER_INTEGRATION,
    FASTER_SIMULATION,
    LATEST,
    MOST_STEPS,
    Paths,
    flow_in_words,
    inaccuracy,
    integrate_in_chunks,
    mean_and_error,
    refuse_large,
    refuse_projection,
    refuse_start_outside,
    require_tolerance,
    side_by_side,
)
from annealvi.session.session import Session
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    from kernels.particles.runs import ParticleRun

MOST_WORK = 1e16
"""Particle coordinates, summed over steps: a day on a fast GPU, months on a CPU."""

COARSEST_AVERAGES = 1e-10
"""Default error of each average where rtol is larger still. An error of the averages enters a path like one of its
steps' local errors, divided by the step; 1e-10 leaves a smaller trace than rtol = 1e-9 does. Averages over three
variables cost half of what 1e-12 takes."""

ANOTHER_STREAM = 1 << 63
"""Flips the seed's highest bit: the finer run of an extrapolation draws its noise independently."""


@checked
def integrate(
    session: Session,
    initial: np.ndarray | None = None,
    *,
    n: int = 16,
    t_end: float | None = None,
    points: int = 201,
    rtol: float = 1e-9,
    tolerance: float | None = None,
    max_cost: float | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Paths:
    """Integrate the summary-statistics ODE from t = 0 to t_end (default: the schedule's settling time plus 50).

    Under the adaptive schedule "adaann", beta follows the rule's flow, by default until 50 after every trajectory has
    reached beta = 1. initial: (n, states), or None for n draws from the exact initial law. points: output times,
    equally spaced. rtol: relative tolerance per step; absolute tolerance is a hundredth of it. tolerance: absolute
    error of each average, by default rtol or COARSEST_AVERAGES, whichever is less. max_cost: refuse what is expected to
    take more seconds, and stop what takes twice as many (None: take however long). tell: hears in one line of an
    expected cost of more than some seconds. Raises BadInput, and kernels.integrate.errors.DomainError if a state
    leaves the overlaps' domain.
    """
    given = None if initial is None else np.atleast_2d(np.asarray(initial, float))
    if given is not None and given.shape[1:] != (len(session.state_names),):
        wanted = f"give (n, {len(session.state_names)}): {', '.join(session.state_names)}"
        raise BadInput("initial", f"an array of shape {given.shape}", wanted, "")
    if not 0 < rtol < 1:
        raise BadInput("rtol", f"{rtol:g} is no relative tolerance", "give a number between 0 and 1, such as 1e-9", "")
    refuse_large("--n or --points", (n if given is None else len(given)) * points * len(session.state_names))
    accuracy = min(COARSEST_AVERAGES, rtol) if tolerance is None else tolerance
    if tolerance is not None:
        require_tolerance("tolerance", tolerance)
    states = session.random_states(n, seed) if given is None else given
    if session.rule is not None:
        options: dict[str, Any] = {"device": device, "max_cost": max_cost, "progress": progress, "tell": tell}
        options |= {"t_end": t_end, "points": points, "rtol": rtol, "tolerance": accuracy}
        return _with_ends(session, integrate_with_rule(session, states, **options))
    end = _end_time(session, t_end)
    kernel = session.compile(device, accuracy)
    refuse_start_outside(kernel, states)
    times = np.linspace(0.0, end, points)
    with stopped_in_time(max_cost, FASTER_INTEGRATION):
        if max_cost is not None or tell is not None:
            require_affordable(
                cost_of_integration(kernel, states, times, rtol, side_by_side(kernel)),
                max_cost,
                FASTER_INTEGRATION,
                tell,
            )
        values, run = integrate_in_chunks(kernel, states, times, rtol, progress)
    paths = Paths(
        times, run.beta, session.state_names, values, run.device, f"{run.method}{inaccuracy(kernel, accuracy)}"
    )
    return _with_ends(session, paths)


@checked
def simulate(
    session: Session,
    initial_means: np.ndarray | None = None,
    *,
    replicas: int = 16,
    particles: int = 256,
    dt: float = 0.1,
    t_end: float | None = None,
    points: int = 101,
    seed: int = 0,
    precision: str = "float64",
    extrapolate: bool = False,
    projected: bool = False,
    max_cost: float | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Paths:
    """Simulate the stochastic gradient flow of all d coordinates of every mean, `replicas` times side by side.

    Under an adaptive schedule each replica has a beta of its own; the run ends by default 50 after all have reached
    beta = 1.

    initial_means: (replicas, L, d), or None for independent uniform means on the sphere. particles: per component and
    step. dt: step in the flow's time; the overlaps' bias, from the step itself and from the gradient's noise, is of
    first order in it. points: recorded times, about equally spaced. extrapolate: run once more with dt/2 and
    independent noise, return the paths extrapolated to dt = 0, replica by replica, and report the bias. max_cost, tell:
    as in `integrate`. projected: draw the particles in the span of modes and means: other numbers of the same law, in
    less time where that has far fewer than d dimensions. Raises BadInput, also for that where a mixture's scales differ
    or more than means is learned.
    """
    from kernels.particles.initial_means import uniform_sphere_means

    if not dt > 0:
        raise BadInput("--dt", f"{dt:g} is no length of a step", "give a number above zero", "")
    problem = session.problem
    if projected:
        refuse_projection(problem)
    dimension, size = problem.space.dimension, len(problem.proposal.weights)
    if session.rule is not None:
        if extrapolate:
            found = "under an adaptive schedule runs of different steps have no common temperatures"
            raise BadInput("--extrapolate", found, "leave it out, or choose a schedule with a formula", "")
        refuse_large("space.dimension", (replicas * size + len(problem.target.weights)) * dimension)
        means = initial_means
        if means is None:
            means = uniform_sphere_means(replicas, size, dimension, np.array(problem.proposal.radii), seed)
        options: dict[str, Any] = {
            "device": device,
            "max_cost": max_cost,
            "progress": progress,
            "tell": tell,
            "precision": precision,
        }
        options |= {
            "particles": particles,
            "dt": dt,
            "t_end": t_end,
            "points": points,
            "seed": seed,
            "projected": projected,
        }
        return _with_ends(session, simulate_with_rule(session, means, session.rule, **options))
    end = _end_time(session, t_end)
    if dt > end:
        raise BadInput(
            "--dt",
            f"the step {dt:g} is longer than the run, which ends at {end:g}",
            "give a shorter step or a later --t-end",
            "",
        )
    if end / dt > MOST_STEPS:
        raise BadInput(
            "--dt",
            f"{end / dt:.3g} steps until t = {end:g}",
            f"ask for at most {MOST_STEPS:.0e}: a longer --dt or a shorter --t-end",
            "",
        )
    steps = max(1, round(end / dt))
    runs = replicas if initial_means is None else len(initial_means)
    passes = 3 if extrapolate else 1
    work, estimates = _work(problem, passes * runs * float(steps), particles, projected)
    if work > MOST_WORK:
        found = f"{work:.2g} particle coordinates over all steps"
        raise BadInput(
            "--particles", found, f"ask for at most {MOST_WORK:.0e}: fewer particles, replicas, steps or dimensions", ""
        )
    refuse_large("--replicas or --points", runs * min(points, steps) * size * (size + len(problem.target.weights)))
    refuse_large("space.dimension", (runs * size + len(problem.target.weights)) * dimension)
    require_affordable(cost_of_particles(work, estimates, device), max_cost, FASTER_SIMULATION, tell)
    if initial_means is None:
        initial_means = uniform_sphere_means(replicas, size, dimension, np.array(problem.proposal.radii), seed)
    record_every = max(1, -(-steps // (points - 1)))
    simulated = partial(
        _simulated,
        session,
        initial_means,
        particles=particles,
        precision=precision,
        device=device,
        projected=projected,
        progress=progress,
    )
    run, values = simulated(dt, steps, record_every, seed)
    method = flow_in_words(particles, dt, precision, run.projected)
    bias = bias_error = None
    if extrapolate:
        _, fine = simulated(dt / 2, 2 * steps, 2 * record_every, seed ^ ANOTHER_STREAM)
        bias, bias_error = mean_and_error(values - fine)
        values = 2 * fine - values
        method += ", extrapolated to dt = 0"
    error = mean_and_error(values)[1]
    paths = Paths(
        run.t,
        run.beta,
        session.state_names,
        values,
        run.device,
        method,
        error,
        bias,
        bias_error,
        projected=run.projected,
    )
    return _with_ends(session, paths)


def _with_ends(session: Session, paths: Paths) -> Paths:
    return replace(
        paths, nearest=nearest_modes(session, paths.values[:, -1]), modes=len(session.problem.target.weights)
    )


def seconds_of_simulation(
    session: Session, replicas: int, particles: int, dt: float, t_end: float | None, projected: bool, device: str
) -> float:
    """What `simulate` is expected to take; the least that it can be under an adaptive schedule, which ends when it has
    come to T = 1."""
    end = _end_time(session, t_end) if session.rule is None else t_end or SETTLING
    steps = max(1, round(end / dt))
    return cost_of_particles(*_work(session.problem, replicas * float(steps), particles, projected), device).seconds


def _work(problem: Problem, steps: float, particles: int, projected: bool) -> tuple[float, float]:
    """Coordinates and particles that are drawn in the steps of all replicas."""
    from kernels.particles.step import draws_per_component

    size = len(problem.proposal.weights)
    draws = draws_per_component(problem.space.dimension, size + len(problem.target.weights), particles, projected)
    return steps * size * draws, steps * size * particles


def _simulated(
    session: Session,
    initial_means: np.ndarray,
    dt: float,
    steps: int,
    record_every: int,
    seed: int,
    *,
    particles: int,
    precision: str,
    device: str,
    projected: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[ParticleRun, np.ndarray]:
    """One run, and its states (replicas, n_out, states)."""
    from kernels.particles.simulation import simulate_particles

    run = simulate_particles(
        initial_means,
        *session.mixtures(),
        np.array([session.schedule.beta_at(n * dt) for n in range(steps)]),
        dt,
        particles=particles,
        seed=seed,
        manifold=session.problem.flow.manifold,
        learn=session.problem.flow.learn,
        record_every=record_every,
        precision=precision,
        device=device,
        projected=projected,
        progress=progress,
    )
    return run, session.states_of_overlaps(run.M, run.Q, run.weights, run.scales).transpose(1, 0, 2)


def _end_time(session: Session, t_end: float | None) -> float:
    end = session.end_time() if t_end is None else t_end
    if not 0 < end <= LATEST:
        raise BadInput(
            "--t-end", f"the run would end at t = {end:.3g}", f"give a time above 0 and at most {LATEST:.0e}", ""
        )
    return end
