"""Paths of the summary statistics, by two independent routes.

`integrate` follows the derived equations, and `simulate` runs particles in d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.outcome import nearest_modes
from annealvi.runs.adaptive import integrate_with_rule, simulate_with_rule
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
from annealvi.session.particle_objective import objective_of_particles
from annealvi.session.session import TIME_TO_SETTLE, Session
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    from kernels.particles.runs import ParticleRun

MOST_WORK = 1e16
"""Most particle coordinates, summed over steps, of one run: a day on a fast GPU, months on a CPU."""

COARSEST_AVERAGES = 1e-10
"""Default error of each average where rtol is larger still. An error of the averages enters a path as a local error of
the integrator does, divided by the step; 1e-10 changes a path less than rtol = 1e-9 does. Averages over three variables
then cost half as much as with 1e-12."""

ANOTHER_STREAM = 1 << 63
"""Flips the seed's highest bit, so that the finer run of an extrapolation draws its noise independently."""


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
    """Integrate the summary-statistics ODE from t = 0 to t_end.

    Under the adaptive schedule "adaann" the inverse temperature beta belongs to each trajectory and follows the rule's
    flow.

    Parameters
    ----------
    session : Session
    initial : ndarray, shape (n, states), optional
        Initial states; by default `n` draws from the exact law of the overlaps of random means.
    n : int, optional
        Number of random initial states.
    t_end : float, optional
        Final time. By default the schedule's settling time plus 50; under "adaann", 50 after every trajectory has
        reached beta = 1.
    points : int, optional
        Number of output times, equally spaced. Under "adaann" without t_end there are at most so many.
    rtol : float, optional
        Relative tolerance of each step; the absolute tolerance is a hundredth of it.
    tolerance : float, optional
        Absolute error of each average; by default the smaller one of rtol and 1e-10.
    max_cost : float, optional
        Seconds: refuse a run that is expected to take longer, and stop one that takes twice as long.
    seed : int, optional
        Seed of the random initial states.
    device : {"auto", "cpu", "cuda"}, optional
    progress : callable, optional
        Called with the numbers of finished trajectories and of all trajectories.
    tell : callable, optional
        Called with one line about the expected cost where that is more than some seconds.

    Returns
    -------
    Paths
        `values` has the shape (n, points, states).

    Raises
    ------
    BadInput
        For an argument that is out of range, and for a run beyond `max_cost`.
    kernels.integrate.errors.DomainError
        If a state leaves the domain of the overlaps.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.T0=30"]))
    >>> paths = annealvi.integrate(session, n=100)  # doctest: +SKIP
    >>> paths.values.shape  # doctest: +SKIP
    (100, 201, 3)
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
    """Simulate the stochastic gradient flow of all d coordinates of every mean, in many replicas side by side.

    Under an adaptive schedule each replica has an inverse temperature beta of its own.

    Parameters
    ----------
    session : Session
    initial_means : ndarray, shape (replicas, L, d), optional
        Initial means; by default independent and uniform on their spheres.
    replicas : int, optional
        Number of independent runs.
    particles : int, optional
        Samples of each component in each step.
    dt : float, optional
        Step in the flow's time. The overlaps have a bias of first order in dt, from Euler's method and from the noise
        of the gradient.
    t_end : float, optional
        Final time. By default the schedule's settling time plus 50; under an adaptive schedule, 50 after every replica
        has reached beta = 1.
    points : int, optional
        Number of recorded times, about equally spaced.
    seed : int, optional
        Seed of the initial means and of the noise.
    precision : {"float64", "float32"}, optional
        Precision of the samples.
    extrapolate : bool, optional
        Run once more with dt/2 and independent noise, return the paths extrapolated to dt = 0, replica by replica, and
        report the bias. Not under an adaptive schedule.
    projected : bool, optional
        Draw the particles in the span of the modes and the means. The numbers differ, their law is the same, and the
        run is faster where the span has far fewer than d dimensions. Needs one scale in each mixture, and nothing
        learned but means, and no covariances.
    max_cost : float, optional
        Seconds: refuse a run that is expected to take longer.
    device : {"auto", "cpu", "cuda"}, optional
    progress : callable, optional
        Called with the numbers of finished steps and of all steps.
    tell : callable, optional
        Called with one line about the expected cost where that is more than some seconds.

    Returns
    -------
    Paths
        `values` has the shape (replicas, about points, states); `standard_error` is that of the mean over replicas.

    Raises
    ------
    BadInput
        For an argument that is out of range or does not fit the problem, and for a run beyond `max_cost`.
    kernels.particles.simulation.DivergenceError
        If dt is so long that Euler's method leaves the flow.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=hold", "schedule.t0=100"]))
    >>> cloud = annealvi.simulate(session, replicas=32)  # doctest: +SKIP
    >>> cloud.standard_error.shape  # doctest: +SKIP
    (101, 3)
    """
    if not dt > 0:
        raise BadInput("--dt", f"{dt:g} is no length of a step", "give a number above zero", "")
    if projected:
        refuse_projection(session.problem)
    options: dict[str, Any] = {
        "particles": particles,
        "precision": precision,
        "device": device,
        "projected": projected,
        "progress": progress,
    }
    if session.rule is not None:
        if extrapolate:
            found = "under an adaptive schedule runs of different steps have no common temperatures"
            raise BadInput("--extrapolate", found, "leave it out, or choose a schedule with a formula", "")
        _refuse_large_means(session.problem, replicas)
        means = _uniform_means(session.problem, replicas, seed) if initial_means is None else initial_means
        options |= {"dt": dt, "t_end": t_end, "points": points, "seed": seed, "max_cost": max_cost, "tell": tell}
        return _with_ends(session, simulate_with_rule(session, means, session.rule, **options))
    steps = _steps(_end_time(session, t_end), dt)
    runs = replicas if initial_means is None else len(initial_means)
    passes = 3 if extrapolate else 1
    work, estimates = _work(session.problem, passes * runs * float(steps), particles, projected)
    _refuse_much(session.problem, work, runs, min(points, steps))
    require_affordable(cost_of_particles(work, estimates, device), max_cost, FASTER_SIMULATION, tell)
    means = _uniform_means(session.problem, replicas, seed) if initial_means is None else initial_means
    record_every = max(1, -(-steps // (points - 1)))
    run, values = _simulated(session, means, dt, steps, record_every, seed, **options)
    method = flow_in_words(particles, dt, precision, run.projected)
    bias = bias_error = None
    if extrapolate:
        _, fine = _simulated(session, means, dt / 2, 2 * steps, 2 * record_every, seed ^ ANOTHER_STREAM, **options)
        bias, bias_error = mean_and_error(values - fine)
        values = 2 * fine - values
        method += ", extrapolated to dt = 0"
    error = mean_and_error(values)[1]
    names = session.state_names
    paths = Paths(run.t, run.beta, names, values, run.device, method, error, bias, bias_error, projected=run.projected)
    return _with_ends(session, paths)


def _with_ends(session: Session, paths: Paths) -> Paths:
    """The paths together with the modes that the means are nearest to in the end."""
    return replace(
        paths, nearest=nearest_modes(session, paths.values[:, -1]), modes=len(session.problem.target.weights)
    )


def seconds_of_simulation(
    session: Session, replicas: int, particles: int, dt: float, t_end: float | None, projected: bool, device: str
) -> float:
    """The time that `simulate` is expected to take.

    Under an adaptive schedule it is a lower bound, since nobody knows when the schedule comes to T = 1.
    """
    end = _end_time(session, t_end) if session.rule is None else t_end or TIME_TO_SETTLE
    steps = max(1, round(end / dt))
    return cost_of_particles(*_work(session.problem, replicas * float(steps), particles, projected), device).seconds


def _steps(end: float, dt: float) -> int:
    """How many steps lead to the end; BadInput for none, and for too many."""
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
    return max(1, round(end / dt))


def _work(problem: Problem, steps: float, particles: int, projected: bool) -> tuple[float, float]:
    """Coordinates and particles that are drawn in the steps of all replicas. steps: their number, over all replicas."""
    from kernels.particles.step import draws_per_component

    size, modes, share = len(problem.proposal.weights), len(problem.target.weights), problem.objective.forward_share
    draws = draws_per_component(problem.space.dimension, size + modes, particles, projected)
    sampled = size * (share < 1) + modes * (share > 0)
    return steps * sampled * draws, steps * sampled * particles


def _refuse_much(problem: Problem, work: float, runs: int, recorded: int) -> None:
    """Raise BadInput for too many coordinates to draw, or too many numbers to store."""
    if work > MOST_WORK:
        found = f"{work:.2g} particle coordinates over all steps"
        raise BadInput(
            "--particles", found, f"ask for at most {MOST_WORK:.0e}: fewer particles, replicas, steps or dimensions", ""
        )
    size, r = len(problem.proposal.weights), problem.coordinates * problem.has_covariances
    refuse_large("--replicas or --points", runs * recorded * size * (size + len(problem.target.weights) + r + r**2))
    _refuse_large_means(problem, runs)


def _refuse_large_means(problem: Problem, runs: int) -> None:
    vectors = runs * len(problem.proposal.weights) + len(problem.target.weights)
    refuse_large("space.dimension", vectors * problem.space.dimension)


def _uniform_means(problem: Problem, replicas: int, seed: int) -> np.ndarray:
    """Means (replicas, L, d), independent and uniform on their spheres."""
    from kernels.particles.initial_means import uniform_sphere_means

    proposal = problem.proposal
    return uniform_sphere_means(
        replicas, len(proposal.weights), problem.space.dimension, np.array(proposal.radii), seed
    )


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
    """One run of the particles, and its states (replicas, n_out, states)."""
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
        objective=objective_of_particles(session.problem),
        covariances=session.covariances(),
        progress=progress,
    )
    return run, session.states_of_run(run).transpose(1, 0, 2)


def _end_time(session: Session, t_end: float | None) -> float:
    """The final time: t_end, or the session's own; BadInput for one that is out of range."""
    end = session.end_time() if t_end is None else t_end
    if not 0 < end <= LATEST:
        raise BadInput(
            "--t-end", f"the run would end at t = {end:.3g}", f"give a time above 0 and at most {LATEST:.0e}", ""
        )
    return end
