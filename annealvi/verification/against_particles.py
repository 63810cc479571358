"""The derived equations against particle simulations in the problem's own dimension: one velocity, and whole paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from scipy import stats

from annealvi.collapse.ensemble import AVERAGES
from annealvi.session.particle_objective import objective_of_particles
from annealvi.session.session import Session
from annealvi.verification.check import Check
from annealvi.verification.evaluator import Evaluator
from annealvi.verification.kernel_numbers import COLD, fastest_rate, under
from annealvi.verification.kl_gradient import most_mutants
from derive.checks.mutations import one_term_mutations
from derive.objects.parameters import WEIGHTS, parameters_of
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA
from derive.problem.specification import COVARIANCES, Problem, ScheduleSpec
from kernels.integrate.kernel import Kernel
from kernels.particles.runs import ParticleRun, extrapolate_step
from kernels.particles.simulation import estimate_velocity, simulate_particles

LEVEL = 1e-3
"""Probability that a right theory fails one comparison of this module, over all states and times (Bonferroni)."""
SEED = 20260212


@dataclass(frozen=True)
class PathSetting:
    """A schedule for a comparison of paths, the end time, and the coarse time step; the fine step is half of it."""

    name: str
    schedule: ScheduleSpec
    t_end: float
    dt: float


SETTINGS = (
    PathSetting("β = 1", COLD, 6.0, 0.06),
    PathSetting("hot and slow", ScheduleSpec("exponential", 60.0, 40.0), 130.0, 0.26),
    PathSetting("hot and fast", ScheduleSpec("exponential", 20.0, 0.5), 9.0, 0.075),
)
REPLICAS, PARTICLES, TIMES = 24, 256, 12


def settings_of(problem: Problem) -> tuple[PathSetting, ...]:
    """The settings that have a meaning for a problem's objective: the forward KL knows no temperature."""
    if problem.objective.kind != "forward-kl":
        return SETTINGS
    return (dataclasses.replace(SETTINGS[0], schedule=ScheduleSpec("constant", 1.0)),)


@dataclass(frozen=True)
class PathComparison:
    """One path of the derived ODE and of the particles.

    Attributes
    ----------
    setting : PathSetting
        Schedule, end time and time step.
    t : ndarray
        Times of the comparison, (n_out,).
    ode, particles, standard_error : ndarray
        States by the ODE and by the particles, extrapolated to dt = 0, with their standard error: (n_out, states).
    bias : ndarray
        Bias of the finer run by extrapolation, (n_out, states).
    remainder : ndarray
        Bias that extrapolation may leave, (n_out, states): the bias times coarse step × fastest rate, since the term of
        second order in the step has one more rate as a factor.
    z : ndarray
        Excess of the differences over the remainder in standard errors, (n_out − 1, states), without the common start;
        zero for states that rest.
    drawn_t, drawn : ndarray
        The ODE on a fine grid, for figures.
    device : str
        The device of the particles.
    """

    setting: PathSetting
    t: np.ndarray
    ode: np.ndarray
    particles: np.ndarray
    standard_error: np.ndarray
    bias: np.ndarray
    remainder: np.ndarray
    z: np.ndarray
    drawn_t: np.ndarray
    drawn: np.ndarray
    device: str

    __repr__ = short_repr


def start(session: Session) -> np.ndarray:
    """Initial means (L, d) for all settings: the first tilted towards a mode, the others close to the equator.

    In the study's own setting this start collapses at β = 1 and under a fast schedule, and separates under a slow one.
    On a line the means start at different lengths, since a mean has no direction there.
    """
    problem = session.problem
    rng = np.random.default_rng(SEED)
    modes = session.modes()
    mode = max(modes, key=lambda nu: float(nu @ nu) > 0)  # the first that is not the origin
    mode = mode / np.linalg.norm(mode) if mode.any() else np.eye(problem.space.dimension)[0]
    noise = rng.normal(size=(len(problem.proposal.weights), problem.space.dimension))
    across = noise - np.outer(noise @ mode, mode)
    tilts = np.resize([0.7, -0.04, -0.3], len(across))
    if problem.space.dimension == 1:
        return (np.array(problem.proposal.radii) * tilts * 0.8 ** np.arange(len(tilts)))[:, None]
    means = tilts[:, None] * mode + across / np.linalg.norm(across, axis=1, keepdims=True)
    return np.array(problem.proposal.radii)[:, None] * means / np.linalg.norm(means, axis=1, keepdims=True)


PATH_TOLERANCE, PATH_RTOL = AVERAGES, 1e-8
"""Tolerances of the derived path's averages and steps, far below the particles' standard errors of some 1e-3. The
averages have the tolerance of ensembles, whose tables and kernel another check compares with sums."""


def compile_for_paths(session: Session) -> Kernel:
    return session.compile("cpu", PATH_TOLERANCE)


def _seed(seed: int, run: int) -> int:
    """The seed of a run of this module; no two runs share noise."""
    return (SEED + 16 * seed + run) % 2**64


def largest_z(count: int, degrees: int) -> float:
    """The two-sided bound on the largest of `count` Student-t values at LEVEL, whatever their correlations."""
    return float(stats.t.isf(LEVEL / (2 * count), degrees))


@dataclass(frozen=True)
class VelocityComparison:
    """The velocity of one state at β = 0.3: derived and estimated rates with the standard error, (states,) each."""

    state: np.ndarray
    derived: np.ndarray
    estimated: np.ndarray
    standard_error: np.ndarray
    device: str

    __repr__ = short_repr

    @property
    def bound(self) -> float:
        return largest_z(len(self.derived), VELOCITY_REPLICAS - 1)


VELOCITY_BETA, VELOCITY_REPLICAS, VELOCITY_PARTICLES = 0.3, 64, 8192
LEAST_POWER = 0.25
"""Share of the mutants that one velocity alone must reject, so that the check is not empty. The others differ by less
than the standard errors at this state; where components hardly overlap, these are most mutants."""


def compare_velocity(session: Session, device: str, seed: int) -> VelocityComparison:
    """Estimate one velocity by particles. The estimate has no step size and no bias, only a standard error."""
    means, manifold = start(session), session.problem.flow.manifold
    estimate = estimate_velocity(
        means,
        *session.mixtures(),
        VELOCITY_BETA,
        particles=VELOCITY_PARTICLES,
        replicas=VELOCITY_REPLICAS,
        seed=_seed(seed, 0),
        manifold=manifold,
        learn=session.problem.flow.learn,
        device=device,
        objective=objective_of_particles(session.problem),
        covariances=session.covariances(),
    )
    state = session.states_of_vectors(means[None])
    return VelocityComparison(
        state[0],
        compile_for_paths(under(session, COLD)).rhs_at_beta(VELOCITY_BETA, state)[0],
        session.states_of_run(estimate),
        np.abs(session.states_of_run(estimate, "_standard_error")),
        estimate.device,
    )


def velocity_checks(session: Session, comparison: VelocityComparison) -> Iterator[Check]:
    """Check that the derived rates agree with the estimate, and that enough of their mutants do not."""

    known = comparison.standard_error > 0  # a rate that is zero by construction has no error

    def largest(rates: np.ndarray) -> float:
        differences = comparison.estimated - rates
        resting = np.abs(differences[~known]).max(initial=0.0) > 1e-12
        return (
            np.inf
            if resting or not known.any()
            else float(np.abs(differences[known] / comparison.standard_error[known]).max())
        )

    system, evaluator = session.derivation.system, Evaluator()
    numbers = {s: sp.Float(v, 30) for s, v in session.values.items()} | {BETA: sp.Float(VELOCITY_BETA, 30)}
    numbers |= {s: sp.Float(x, 30) for s, x in zip(system.states, comparison.state, strict=True)}
    mutants = one_term_mutations(system, most_mutants(session.derivation))
    rejected = sum(
        not largest(evaluator.rates_or_nan(mutant.system, numbers)) <= comparison.bound for mutant in mutants
    )
    note = f"largest |z| of {len(comparison.derived)} rates; {comparison.device}"
    yield Check("one velocity against particles", "monte-carlo", largest(comparison.derived), comparison.bound, note)
    note = f"{rejected} of {len(mutants)} mutants rejected by one particle velocity alone, at the same bound"
    share = 1 - rejected / len(mutants) if mutants else 1.0
    yield Check("negative controls: share that one velocity lets pass", "monte-carlo", share, 1 - LEAST_POWER, note)


def compare_paths(
    session: Session, setting: PathSetting, device: str, seed: int, progress: Callable[[int, int], None] | None = None
) -> PathComparison:
    """Run the ODE and two particle ensembles (dt and dt/2) from one start; extrapolate the ensembles to dt = 0."""
    here = under(session, setting.schedule)
    means = start(here)
    setting, stiffness = slowed_down(here, means, setting)
    coarse = _run(here, means, setting, 1, device, seed, progress)
    fine = _run(here, means, setting, 2, device, seed, progress)
    records = records_of_one_path(here, means, coarse)
    at_zero = extrapolate_step(coarse, fine).until(max(records, 2))  # a figure needs two times
    kernel = compile_for_paths(here)
    initial = here.states_of_vectors(means[None])
    ode = kernel.integrate(initial, at_zero.t, rtol=PATH_RTOL, atol=PATH_RTOL / 100).y[0]
    drawn_t = np.linspace(0, float(at_zero.t[-1]), 200)
    particles = here.states_of_run(at_zero)
    error = np.abs(here.states_of_run(at_zero, "_standard_error"))
    moving = error[1:].max(0) > 0  # a state that rests has no error and must not have moved
    strayed = np.where(moving | (np.abs(particles[1:] - ode[1:]) < 1e-8), 0.0, np.inf)
    bias = here.states_of_run(at_zero, "_bias")
    remainder = stiffness * np.abs(bias)
    excess = np.sign(particles - ode) * np.maximum(np.abs(particles - ode) - remainder, 0)
    return PathComparison(
        setting,
        at_zero.t,
        ode,
        particles,
        error,
        bias,
        remainder,
        np.divide(excess[1:], error[1:], out=strayed, where=moving),
        drawn_t,
        kernel.integrate(initial, drawn_t, rtol=PATH_RTOL, atol=PATH_RTOL / 100).y[0],
        coarse.device,
    )


MOST_STIFF = 0.08
"""Largest product of the coarse step and the flow's fastest rate."""
MOST_STEPS = 1500


def slowed_down(session: Session, means: np.ndarray, setting: PathSetting) -> tuple[PathSetting, float]:
    """The setting with a step that resolves the fastest rate along the derived path, within MOST_STEPS steps.

    Also returns the product of the coarse step and that rate. Only the particles' time step depends on the derived
    equations in this way, and extrapolation to dt = 0 removes its influence.
    """
    kernel = compile_for_paths(session)
    times = np.linspace(0.0, setting.t_end, 9)
    path = kernel.integrate(session.states_of_vectors(means[None]), times, rtol=1e-6, atol=1e-8)
    fastest = max(fastest_rate(kernel, float(beta), y) for beta, y in zip(path.beta, path.y[0], strict=True))
    dt = min(setting.dt, MOST_STIFF / fastest)
    if dt < setting.dt:
        recorded = round(min(setting.t_end / dt, MOST_STEPS) / TIMES) * TIMES  # a whole number of steps between records
        setting = dataclasses.replace(setting, t_end=recorded * dt, dt=dt)
    return setting, dt * fastest


MOST_SCATTER = 1 / (2 * np.sqrt(REPLICAS))
"""Largest standard deviation over the replicas, relative to the states' natural size, at which their mean follows one
path. A scatter δ displaces the mean by some δ²/2; up to this limit that is below a quarter of the mean's standard error
δ/√REPLICAS, even if extrapolation removes nothing. Along a separatrix the smallest noise decides between two branches,
and the scatter grows to the states' own size."""

LEAST_COMPARED = 3
"""Smallest number of times, of TIMES + 1, at which a path must be compared to pass."""


def records_of_one_path(session: Session, means: np.ndarray, run: ParticleRun) -> int:
    """The number of records before the replicas scatter."""
    scatter = session.states_of_run(run).std(axis=1, ddof=1)
    scattered = (scatter > MOST_SCATTER * natural_sizes(session, means, run)).any(axis=1)
    return int(np.argmax(scattered)) if scattered.any() else len(run.t)


def natural_sizes(session: Session, means: np.ndarray, run: ParticleRun) -> np.ndarray:
    """The states' natural sizes at the records of a run, (n_out, states).

    They are products of lengths, and the scales at the start. A learned covariance grows with the temperature, and its
    size is the product of its present standard deviations.
    """
    own, modes = np.linalg.norm(means, axis=1), np.linalg.norm(session.modes(), axis=1)
    if session.problem.flow.manifold == "euclidean":  # a mean may start short on its way to a mode
        own = np.maximum(own, modes.max())
    sizes: dict[str, Any] = parameters_of(session.problem.proposal) | {WEIGHTS.name: np.ones(len(means))}
    M, Q = np.outer(own, modes), np.outer(own, own)
    if run.covariances is not None:
        M = np.repeat(own[:, None], session.problem.coordinates, axis=1)
        deviations = np.sqrt(np.diagonal(run.covariances.mean(axis=1), axis1=-2, axis2=-1))
        sizes[COVARIANCES] = deviations[..., None] * deviations[..., None, :]
    M, Q = (np.broadcast_to(overlaps, (len(run.t), *overlaps.shape)) for overlaps in (M, Q))
    return np.abs(session.states_of_overlaps(M, Q, sizes))


def path_checks(comparisons: list[PathComparison]) -> Iterator[Check]:
    """Yield one check for each path; it fails if too few times are compared or nothing moves."""
    for c in comparisons:
        bound = largest_z(max(c.z.size, 1), REPLICAS - 1)
        compared = len(c.z) >= LEAST_COMPARED and (c.standard_error[1:] > 0).any()
        largest = float(np.abs(c.z).max()) if compared else np.inf
        ran = f"{REPLICAS} × {PARTICLES} particles, dt = {c.setting.dt:g} and half; {c.device}"
        whole = c.t[-1] >= c.setting.t_end * (1 - 1e-9)
        until = "" if whole else f" until t = {c.t[-1]:.3g}, where the replicas begin to scatter"
        note = f"largest |z| of {c.z.size} over the path{until}, beyond what the step leaves; {ran}"
        yield Check(f"path against particles, {c.setting.name}", "monte-carlo", largest, bound, note)


def _run(
    session: Session,
    means: np.ndarray,
    setting: PathSetting,
    halvings: int,
    device: str,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> ParticleRun:
    dt = setting.dt / halvings
    steps = round(setting.t_end / dt)
    return simulate_particles(
        np.repeat(means[None], REPLICAS, axis=0),
        *session.mixtures(),
        np.array([session.schedule.beta_at(n * dt) for n in range(steps)]),
        dt,
        particles=PARTICLES,
        seed=_seed(seed, 1 + 2 * [s.name for s in SETTINGS].index(setting.name) + halvings),
        manifold=session.problem.flow.manifold,
        learn=session.problem.flow.learn,
        record_every=round(setting.t_end / setting.dt) // TIMES * halvings,
        device=device,
        objective=objective_of_particles(session.problem),
        covariances=session.covariances(),
        progress=progress,
    )
