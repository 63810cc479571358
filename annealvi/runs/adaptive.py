"""Paths under an adaptive schedule, which gives each path an inverse temperature beta of its own.

`integrate` calls `integrate_with_rule`, which follows AdaAnn's derived flow of beta; `simulate` calls
`simulate_with_rule`, in which each replica's rule looks at its particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.runs.costs import (
    Cost,
    affordable_number,
    cost_of_integration,
    cost_of_particles,
    pace_of_integration,
    require_affordable,
    stopped_in_time,
)
from annealvi.runs.paths import (
    FASTER_ADAPTIVE,
    FASTER_INTEGRATION,
    FASTER_SIMULATION,
    LATEST,
    MOST_STEPS,
    Paths,
    chunks_of,
    flow_in_words,
    inaccuracy,
    integrate_in_chunks,
    mean_and_error,
    random_chunks,
    refuse_large,
    refuse_start_outside,
    side_by_side,
)
from annealvi.session.session import TIME_TO_SETTLE, Session
from derive.problem.schedules import AdaptiveRule
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel
    from kernels.particles.adaptive_schedules import AdaptiveRun, Rule

MOST_PIECES = 20
"""A path whose end is not known is followed piece by piece, each as long as the whole was expected to be. After this
many pieces the run gives up."""


@dataclass(frozen=True)
class Ends:
    """Where trajectories end.

    Attributes
    ----------
    t : float
        The end that all trajectories have in common.
    states : ndarray, shape (n, states)
        The trajectories' states there.
    device, method : str
        What really ran.
    """

    t: float
    states: np.ndarray
    device: str
    method: str


def integrate_with_rule(
    session: Session,
    states: np.ndarray,
    *,
    t_end: float | None,
    points: int,
    rtol: float,
    tolerance: float,
    max_cost: float | None,
    device: str,
    progress: Callable[[int, int], None] | None,
    tell: Callable[[str], None] | None,
) -> Paths:
    """Integrate states (n, states) and beta together; the beta of the Paths is (n, n_out).

    t_end: None ends the run TIME_TO_SETTLE after the last trajectory has reached beta = 1, with at most `points` output
    times. For the other arguments see `annealvi.integrate`.
    """
    kernel = session.compile_with_rule(device, tolerance)
    assert session.rule is not None  # compile_with_rule has seen it
    start = np.column_stack([states, np.full(len(states), session.rule.start_beta)])
    refuse_start_outside(kernel, start)
    expected = _expected_end(kernel, start) + TIME_TO_SETTLE if t_end is None else t_end
    _refuse_late(expected)
    times = np.linspace(0.0, expected, points)
    with stopped_in_time(max_cost, FASTER_INTEGRATION):
        if max_cost is not None or tell is not None:
            require_affordable(
                cost_of_integration(kernel, start, times, rtol, side_by_side(kernel)),
                max_cost,
                FASTER_INTEGRATION,
                tell,
            )
        if t_end is None:
            times, values, method = _until_cold(kernel, start, times, rtol, progress)
        else:
            values, run = integrate_in_chunks(kernel, start, times, rtol, progress)
            method = run.method
    beta = np.minimum(values[:, :, -1], 1.0)
    method = f"{method}{inaccuracy(kernel, tolerance)}"
    return Paths(times, beta, session.state_names, values[:, :, :-1], kernel.device, method)


def ends_with_rule(
    session: Session,
    n: int | None,
    *,
    seed: int,
    rtol: float,
    tolerance: float,
    max_cost: float | None,
    device: str,
    progress: Callable[[int, int], None] | None,
    tell: Callable[[str], None] | None,
) -> Ends:
    """Find where `integrate_with_rule` leads n random states, keeping one state of each trajectory.

    n: None takes as many as the problem can afford, see `costs.affordable_number`. For the other arguments see
    `annealvi.integrate`.
    """
    from kernels.integrate.domain import widest_tolerance

    kernel = session.compile_with_rule(device, tolerance)
    assert session.rule is not None  # compile_with_rule has seen it
    crew = side_by_side(kernel)
    if n is None or max_cost is not None or tell is not None:
        few = session.random_states(crew, seed)
        few = np.column_stack([few, np.full(len(few), session.rule.start_beta)])
        expected = np.array([0.0, _expected_end(kernel, few) + TIME_TO_SETTLE])
        with stopped_in_time(max_cost, FASTER_ADAPTIVE):
            pace = pace_of_integration(kernel, few, expected, rtol, crew)
        if n is None:
            n = affordable_number(pace, max_cost, tell)
        require_affordable(pace.cost(n), max_cost, FASTER_ADAPTIVE, tell)
    refuse_large("--n", 2 * n * len(session.state_names))
    here = np.full((n, len(session.state_names) + 1), session.rule.start_beta)
    for chunk, states in random_chunks(session, kernel, n, seed):
        here[chunk, :-1] = states
    chunks = chunks_of(kernel, n)
    piece = max(_expected_end(kernel, here[chunk]) for chunk in chunks) + TIME_TO_SETTLE
    _refuse_late(piece)
    times = np.array([0.0, piece])
    options: dict[str, Any] = {"rtol": rtol, "atol": rtol / 100, "domain_tolerance": widest_tolerance(rtol)}
    t, cold = 0.0, 0.0 if (here[:, -1] >= 1).all() else np.inf
    with stopped_in_time(max_cost, FASTER_ADAPTIVE):
        for _ in range(MOST_PIECES):
            for chunk in chunks:
                run = kernel.integrate(here[chunk], times, number=chunk.start, **options)
                here[chunk] = run.y[:, -1]
                if progress is not None:
                    progress(chunk.stop, n)
            t += piece
            cold = min(cold, t if (here[:, -1] >= 1).all() else np.inf)
            if t >= cold + TIME_TO_SETTLE:
                return Ends(t, here[:, :-1], kernel.device, f"{run.method}{inaccuracy(kernel, tolerance)}")
    raise _never_cold(t)


def _refuse_late(end: float) -> None:
    if end > LATEST:
        raise BadInput("--t-end", f"the run would end at t = {end:.3g}", f"bring its end to at most {LATEST:.0e}", "")


def _expected_end(kernel: Kernel, start: np.ndarray) -> float:
    """The time at which the last beta would reach one if all rose at their first rate."""
    rates = kernel.rhs_at_beta(1.0, start)[:, -1]
    rising = start[:, -1] < 1
    return float(np.max((1 - start[rising, -1]) / rates[rising], initial=0.0))


def _until_cold(
    kernel: Kernel, start: np.ndarray, times: np.ndarray, rtol: float, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Integrate until TIME_TO_SETTLE after the last beta is one.

    Returns the times, the values (n, n_out, states) and the method. The path is followed in pieces; the system is
    autonomous, so each piece begins at time zero.
    """
    t, pieces, here = np.zeros(1), [start[:, None]], start
    for _ in range(MOST_PIECES):
        values, run = integrate_in_chunks(kernel, here, times, rtol, progress)
        pieces.append(values[:, 1:])
        t, here = np.concatenate([t, t[-1] + times[1:]]), values[:, -1]
        path = np.concatenate(pieces, axis=1)
        cold = (path[:, :, -1] >= 1).all(axis=0)
        settled = np.flatnonzero(t >= t[cold.argmax()] + TIME_TO_SETTLE)
        if cold.any() and len(settled):
            kept = np.unique(np.linspace(0, settled[0], len(times)).round().astype(int))
            return t[kept], path[:, kept], run.method
    raise _never_cold(t[-1])


def _never_cold(t: float) -> BadInput:
    return BadInput(
        "--t-end", f"beta has not reached 1 by t = {t:.3g} in every trajectory", "give an end with --t-end", ""
    )


def simulate_with_rule(
    session: Session,
    initial_means: np.ndarray,
    rule: AdaptiveRule,
    *,
    particles: int,
    dt: float,
    t_end: float | None,
    points: int,
    seed: int,
    precision: str,
    projected: bool,
    max_cost: float | None,
    device: str,
    progress: Callable[[int, int], None] | None,
    tell: Callable[[str], None] | None,
) -> Paths:
    """Simulate initial_means (replicas, L, d) under a rule; the beta of the Paths is (replicas, n_out).

    The `cost` of the Paths says how much work the run was.

    t_end: None ends the run TIME_TO_SETTLE after the last replica has reached beta = 1, within max_cost.
    For the other arguments see `annealvi.simulate`.
    """
    from kernels.particles.adaptive_schedules import simulate_adaptively
    from kernels.particles.random_stream import MAX_PARTICLES

    if not 2 <= particles <= MAX_PARTICLES // 2:
        found = f"{particles} per component, of which a rule estimates a variance"
        raise BadInput("--particles", found, f"give 2 to {MAX_PARTICLES // 2}", "")
    every = max(1, round(rule.interval / dt))
    steps = _expected_steps(session, rule, every, dt, t_end)
    cost = _cost_of_steps(session, initial_means, steps, particles, projected, device)
    require_affordable(cost, max_cost, FASTER_SIMULATION.replace("ask for", "ask for a shorter schedule.t0,"), tell)
    most = _most_steps(steps, cost, max_cost) if t_end is None else steps
    record_every = max(1, -(-steps // (points - 1)))
    _refuse_many_records(session, len(initial_means), most // record_every)
    run = simulate_adaptively(
        initial_means,
        *session.mixtures(),
        _rule_of_particles(rule, every, particles),
        dt,
        steps=most,
        particles=particles,
        seed=seed,
        manifold=session.problem.flow.manifold,
        learn=session.problem.flow.learn,
        record_every=record_every,
        steps_after_one=round(TIME_TO_SETTLE / dt) if t_end is None else None,
        precision=precision,
        device=device,
        projected=projected,
        progress=progress,
    )
    method = f"{flow_in_words(particles, dt, precision, run.projected)}, {rule.kind} every {every * dt:g}"
    return _paths_of(session, run, points, method)


def _expected_steps(session: Session, rule: AdaptiveRule, every: int, dt: float, t_end: float | None) -> int:
    """Steps until t_end or, without it, until every beta is expected to be one and the flow has settled."""
    wanted = _expected_updates(session, rule) * every + TIME_TO_SETTLE / dt if t_end is None else t_end / dt
    if not wanted <= MOST_STEPS:
        found = f"{wanted:.3g} steps until every beta is expected to be 1"
        raise BadInput(
            "--dt",
            found,
            f"ask for at most {MOST_STEPS:.0e}: a shorter schedule.t0, a longer --dt or an earlier --t-end",
            "",
        )
    return max(1, round(wanted))


def _most_steps(expected: int, cost: Cost, max_cost: float | None) -> int:
    """The steps that max_cost allows, between `expected` and MOST_PIECES times as many. cost: of the expected ones."""
    affordable = MOST_PIECES if max_cost is None else max_cost / cost.seconds
    return round(min(MOST_STEPS, expected * min(MOST_PIECES, max(1.0, affordable))))


def _sizes(session: Session) -> tuple[int, int]:
    """Numbers of components and of modes."""
    return len(session.problem.proposal.weights), len(session.problem.target.weights)


def _cost_of_steps(
    session: Session, initial_means: np.ndarray, steps: int, particles: int, projected: bool, device: str
) -> Cost:
    from kernels.particles.step import draws_per_component

    components, modes = _sizes(session)
    draws = draws_per_component(initial_means.shape[-1], components + modes, particles, projected)
    estimates = float(len(initial_means)) * components * steps
    return cost_of_particles(estimates * draws, estimates * particles, device)


def _refuse_many_records(session: Session, replicas: int, records: int) -> None:
    components, modes = _sizes(session)
    refuse_large("--replicas or --points", replicas * records * components * (components + modes))


def _paths_of(session: Session, run: AdaptiveRun, points: int, method: str) -> Paths:
    """The Paths of a run, at up to `points` of its recorded times."""
    kept = np.unique(np.linspace(0, len(run.t) - 1, points).round().astype(int))
    values = session.states_of_overlaps(run.M, run.Q, run.parameters).transpose(1, 0, 2)[:, kept]
    return Paths(
        run.t[kept],
        run.beta[kept].T,
        session.state_names,
        values,
        run.device,
        method,
        mean_and_error(values)[1],
        cost=_cost_of(run),
        projected=run.projected,
    )


def _rule_of_particles(rule: AdaptiveRule, every: int, particles: int) -> Rule:
    from kernels.particles.adaptive_schedules import AdaAnn, EffectiveSampleSize

    kind = AdaAnn if rule.kind == "adaann" else EffectiveSampleSize
    return kind(rule.strength, every, rule.start_beta, particles)


def _expected_updates(session: Session, rule: AdaptiveRule) -> float:
    """Estimate how often the rule acts before beta = 1, for the cost alone.

    The variance of the log-density is taken as if the target were the one mode for which it is largest. The relative
    effective sample size of a small increment δ is 1/(1 + δ² Var), so a level of the rule "ess" stands for the
    tolerance tau = √(1/level − 1) of the rule "adaann".
    """
    target, proposal, d = session.problem.target, session.problem.proposal, session.problem.space.dimension
    tau = rule.strength if rule.kind == "adaann" else np.sqrt(1 / rule.strength - 1)
    variances = [
        (scale**2 * (radius**2 + sum(x * x for x in nu)) + d * scale**4 / 2) / target_scale**4
        for radius, scale in zip(proposal.radii, proposal.scales, strict=True)
        for nu, target_scale in zip(target.means, target.scales, strict=True)
    ]
    return float((1 - rule.start_beta) * np.sqrt(max(variances)) / tau) + 1


def _cost_of(run: AdaptiveRun) -> dict[str, Any]:
    """The work of each replica: arrays (replicas,). time_to_one is nan where beta has not reached one."""
    reached = run.cost.steps_to_one >= 0
    return {
        "updates": run.cost.updates,
        "time_to_one": np.where(reached, run.cost.steps_to_one * run.dt, np.nan),
        "rule_evaluations": run.cost.rule_evaluations,
        "gradient_evaluations": run.cost.gradient_evaluations,
    }
