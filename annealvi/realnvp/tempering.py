"""The inverse temperature of each optimiser step, from a schedule or from an adaptive rule and the step's samples."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from annealvi.annealing.betas import BetaSchedule
from derive.problem.schedules import SETTLED_EXCESS, AdaptiveRule, make_schedule, settling_time
from derive.problem.specification import BadInput, ScheduleSpec

AFTER_SETTLING = 2000
"""Default number of steps at β = 1 for each flow of a sweep."""
AFTER_SETTLING_ALONE = 20_000
"""Default number of steps at β = 1 for a single run, enough for right mode weights."""
STEPS_OF_ADAPTIVE_RUNS = 10_000
HALVINGS = 30
"""Bisections of the interval in which the ESS rule looks for its next β."""


def betas_of(spec: ScheduleSpec, steps: int, time_per_step: float) -> np.ndarray:
    """β at the start of each step, (steps,). The schedule's time is the number of steps times `time_per_step`."""
    return BetaSchedule(spec, time_per_step).values(steps).astype(np.float32)


def default_steps(
    spec: ScheduleSpec,
    rule: AdaptiveRule | None,
    time_per_step: float,
    after: int = AFTER_SETTLING,
    excess: float = SETTLED_EXCESS,
) -> int:
    """The number of steps until the schedule reaches T <= 1 + excess, and `after` more."""
    if rule is not None:
        return STEPS_OF_ADAPTIVE_RUNS
    steps = settling_time(make_schedule(spec), excess) / time_per_step
    if not steps < 1e8:
        raise BadInput("schedule", f"it takes {steps:.2g} steps to settle", "give --steps, or a shorter t0", "problem")
    return math.ceil(steps) + after


def steps_between_adjustments(rule: AdaptiveRule, time_per_step: float) -> int:
    """The number of steps between adjustments by an adaptive rule, whose interval is in the schedule's time."""
    return max(1, round(rule.interval / time_per_step))


def next_beta(kind: str, strength: jax.Array | float, beta: jax.Array, log_target: jax.Array) -> jax.Array:
    """β after an adjustment by an adaptive rule. log_target: (n,) log p* at samples of q.

    The rule "adaann" gives β + τ/√Var_q[log p*], where τ is the strength. The rule "ess" gives the largest β' for which
    the weights p*^(β' − β) keep a relative effective sample size of `strength`. β is 1 at most.
    """
    if kind == "adaann":
        return jnp.minimum(1.0, beta + strength / jnp.std(log_target))

    def enough(candidate: jax.Array) -> jax.Array:
        log_weights = (candidate - beta) * log_target
        size = jnp.exp(2 * jax.nn.logsumexp(log_weights) - jax.nn.logsumexp(2 * log_weights)) / len(log_target)
        return size >= strength

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        good = enough(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, (beta, jnp.ones_like(beta)))
    return jnp.where(enough(jnp.ones_like(beta)), 1.0, low)
