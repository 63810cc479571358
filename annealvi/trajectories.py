"""Paths of the summary statistics: by the derived equations (`integrate`) and by particles in d dimensions (`simulate`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from annealvi.session import Session
from derive.problem import BadInput

MOST_NUMBERS = 200_000_000
"""Largest number of stored values that a command accepts: 1.6 GB in double precision."""

MOST_STEPS = 20_000_000
MOST_WORK = 1e16
"""Particle coordinates, summed over steps: a day on a fast GPU, months on a CPU."""

LATEST = 1e12
ANOTHER_STREAM = 1 << 63
"""Flips the seed's highest bit: the finer run of an extrapolation draws its noise independently."""


@dataclass(frozen=True)
class Paths:
    """t, beta: (n_out,). states: the names, in order. values: (n, n_out, states), one path per initial state or replica.

    device, method: what really ran. standard_error: (n_out, states) of the mean over replicas, for particles only.
    bias, bias_standard_error: (n_out, states) that the step dt/2 leaves in the mean, estimated by extrapolation; for extrapolated
    particles only.
    """

    t: np.ndarray
    beta: np.ndarray
    states: tuple[str, ...]
    values: np.ndarray
    device: str
    method: str
    standard_error: np.ndarray | None = None
    bias: np.ndarray | None = None
    bias_standard_error: np.ndarray | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: trajectories by state, each a list over paths of a list over times."""
        result: dict[str, Any] = {
            "t": self.t,
            "beta": self.beta,
            "states": list(self.states),
            "trajectories": {name: self.values[:, :, n] for n, name in enumerate(self.states)},
            "device": self.device,
            "method": self.method,
        }
        if self.standard_error is not None:
            result["mean"] = {name: self.values[:, :, n].mean(0) for n, name in enumerate(self.states)}
            result["standard_error"] = {name: self.standard_error[:, n] for n, name in enumerate(self.states)}
        if self.bias is not None and self.bias_standard_error is not None:
            result["bias"] = {name: self.bias[:, n] for n, name in enumerate(self.states)}
            result["bias_standard_error"] = {name: self.bias_standard_error[:, n] for n, name in enumerate(self.states)}
        return result


def integrate(
    session: Session,
    initial: np.ndarray | None = None,
    *,
    n: int = 16,
    t_end: float | None = None,
    points: int = 201,
    rtol: float = 1e-9,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Paths:
    """Integrate the summary-statistics ODE from t = 0 to t_end (default: the schedule's settling time plus 50).

    initial: (n, states), or None for n draws from the exact initial law. points: output times, equally spaced.
    rtol: relative tolerance per step; absolute tolerance is a hundredth of it. Raises kernels.integrator.DomainError if a state
    leaves the overlaps' domain.
    """
    given = None if initial is None else np.atleast_2d(np.asarray(initial, float))
    _refuse_large("--n or --points", (n if given is None else len(given)) * points * len(session.state_names))
    end = _end_time(session, t_end)
    kernel = session.compile(device)
    states = session.random_states(n, seed) if given is None else given
    times = np.linspace(0.0, end, points)
    pieces = []
    chunk = max(1, min(len(states), 500 if kernel.where.kind == "cpu" else 20_000))  # Ctrl-C is heard between chunks
    for start in range(0, len(states), chunk):
        pieces.append(kernel.integrate(states[start : start + chunk], times, rtol=rtol, atol=rtol / 100))
        if progress is not None:
            progress(min(start + chunk, len(states)), len(states))
    values = np.concatenate([piece.y for piece in pieces])
    return Paths(times, pieces[0].beta, session.state_names, values, pieces[0].device, pieces[0].method)


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
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Paths:
    """Simulate the stochastic gradient flow of all d coordinates of every mean, `replicas` times side by side.

    initial_means: (replicas, L, d), or None for independent uniform means on the sphere. particles: per component and step.
    dt: step in the flow's time; the overlaps' bias, from the step itself and from the gradient's noise, is of first order in it.
    points: recorded times, about equally spaced. extrapolate: run once more with dt/2 and independent noise, return the paths
    extrapolated to dt = 0, replica by replica, and report the bias.
    """
    from kernels.particles import uniform_sphere_means

    problem = session.problem
    dimension, size = problem.space.dimension, len(problem.proposal.weights)
    end = _end_time(session, t_end)
    if dt > end:
        raise BadInput(
            "--dt", f"the step {dt:g} is longer than the run, which ends at {end:g}", "give a shorter step or a later --t-end", ""
        )
    if end / dt > MOST_STEPS:
        raise BadInput(
            "--dt", f"{end / dt:.3g} steps until t = {end:g}", f"ask for at most {MOST_STEPS:.0e}: a longer --dt or a shorter --t-end", ""
        )
    steps = max(1, round(end / dt))
    runs = replicas if initial_means is None else len(initial_means)
    work = float(runs) * size * dimension * particles * steps * (3 if extrapolate else 1)
    if work > MOST_WORK:
        found = f"{work:.2g} particle coordinates over all steps"
        raise BadInput("--particles", found, f"ask for at most {MOST_WORK:.0e}: fewer particles, replicas, steps or dimensions", "")
    _refuse_large("--replicas or --points", runs * min(points, steps) * size * (size + len(problem.target.weights)))
    _refuse_large("space.dimension", (runs * size + len(problem.target.weights)) * dimension)
    if initial_means is None:
        initial_means = uniform_sphere_means(replicas, size, dimension, np.array(problem.proposal.radii), seed)
    record_every = max(1, -(-steps // (points - 1)))
    run = partial(_particle_values, session, initial_means, particles=particles, precision=precision, device=device, progress=progress)
    t, beta, values, ran_on = run(dt, steps, record_every, seed)
    method = f"stochastic gradient flow, {particles} particles, dt = {dt:g}, {precision}"
    bias = bias_error = None
    if extrapolate:
        _, _, fine, _ = run(dt / 2, 2 * steps, 2 * record_every, seed ^ ANOTHER_STREAM)
        bias, bias_error = _mean_and_error(values - fine)
        values = 2 * fine - values
        method += ", extrapolated to dt = 0"
    return Paths(t, beta, session.state_names, values, ran_on, method, _mean_and_error(values)[1], bias, bias_error)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the replicas and its standard error, which one replica does not give (NaN)."""
    from kernels.particles import mean_and_standard_error

    if len(values) == 1:
        return values[0], np.full(values.shape[1:], np.nan)
    return mean_and_standard_error(values, axis=0)


def _particle_values(
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
    progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """One run: t and beta (n_out,), the states (replicas, n_out, states), and the device."""
    from kernels.particles import simulate_particles

    target, proposal = session.problem.target, session.problem.proposal
    run = simulate_particles(
        initial_means,
        session.modes(),
        np.array(target.weights),
        np.array(target.scales),
        np.array(proposal.weights),
        np.array(proposal.scales),
        np.array([session.schedule.beta_at(n * dt) for n in range(steps)]),
        dt,
        particles=particles,
        seed=seed,
        manifold=session.problem.flow.manifold,
        learn=session.problem.flow.learn,
        record_every=record_every,
        precision=precision,
        device=device,
        progress=progress,
    )
    return run.t, run.beta, session.states_of_overlaps(run.M, run.Q, run.weights, run.scales).transpose(1, 0, 2), run.device


def _end_time(session: Session, t_end: float | None) -> float:
    end = session.end_time() if t_end is None else t_end
    if not 0 < end <= LATEST:
        raise BadInput("--t-end", f"the run would end at t = {end:.3g}", f"give a time above 0 and at most {LATEST:.0e}", "")
    return end


def _refuse_large(option: str, numbers: int) -> None:
    if numbers > MOST_NUMBERS:
        raise BadInput(option, f"{numbers:.3g} stored numbers", f"ask for at most {MOST_NUMBERS:.0e}", "")
