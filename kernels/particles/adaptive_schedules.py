"""Adaptive schedules of the particle simulation: a rule raises the beta of each replica along its run.

Every `every` steps the rule draws fresh particles from the replica's mixture q, evaluates log p* at these particles,
and chooses the next beta:

* AdaAnn takes beta' = beta + tau / sqrt(Var_q[log p*]), since the KL from p*^beta to p*^beta' is about
  (beta' - beta)^2 / 2 times that variance (Cobian, Hauenstein, Liu and Schiavazzi, "AdaAnn: adaptive annealing
  scheduler for probability density approximation").
* The rule of the effective sample size takes the largest beta' for which the weights p*^(beta' - beta) of q's particles
  are still even enough.

Both rules stop at beta = 1, and both are rules for the tempered reverse KL alone. No step uses the particles of a rule.
The CPU draws the rule's particles in double precision even if the steps run on the GPU, because a rule draws too seldom
for a kernel of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.machine.device import DeviceRequest
from kernels.particles.cpu import log_target_of_particles
from kernels.particles.objective import TEMPERED_REVERSE_KL
from kernels.particles.random_stream import MAX_PARTICLES, MAX_STEPS
from kernels.particles.runs import ParticleRun
from kernels.particles.shapes import WEIGHTS
from kernels.particles.simulation import run_and_record
from kernels.particles.start import Manifold, ParticleSimulation, Precision, check_integer, prepare_simulation

BISECTIONS = 40
"""With so many halvings, bisection finds the beta' of a given effective sample size to (1 - beta) 2^-40 < 1e-12."""


@dataclass(frozen=True)
class AdaAnn:
    """The rule that beta grows by tau / sqrt(Var_q[log p*]) after every `every` steps, up to 1.

    Attributes
    ----------
    tau
        Positive and finite.
    every
        Steps between two changes of beta.
    start_beta
        The first beta, from 0 to 1.
    particles
        Particles of each component for each estimate of the variance, at least 2.
    """

    tau: float
    every: int
    start_beta: float
    particles: int

    def __post_init__(self) -> None:
        if not _is_number(self.tau) or not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be positive and finite, not {self.tau!r}")
        _check_rule(self.every, self.start_beta, self.particles)

    def next_betas(self, betas: np.ndarray, log_targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The next betas, (replicas,), from the betas (replicas,).

        log_targets: log p* at the particles, (replicas, L, particles); weights: (replicas, L).
        """
        deviations = np.sqrt(mixture_variance(log_targets, weights))
        # A deviation below tau lets beta reach 1 in any case; bounding it by tau avoids a division by zero.
        return np.minimum(1.0, betas + self.tau / np.maximum(deviations, self.tau))


@dataclass(frozen=True)
class EffectiveSampleSize:
    """The rule that beta grows to the largest beta' <= 1 with a relative effective sample size of at least `level`.

    Attributes
    ----------
    level
        Between 0 and 1.
    every
        Steps between two changes of beta.
    start_beta
        The first beta, from 0 to 1.
    particles
        Particles of each component for each estimate of the sample size, at least 2.
    """

    level: float
    every: int
    start_beta: float
    particles: int

    def __post_init__(self) -> None:
        if not _is_number(self.level) or not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {self.level!r}")
        _check_rule(self.every, self.start_beta, self.particles)

    def next_betas(self, betas: np.ndarray, log_targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The next betas, (replicas,), from the betas (replicas,).

        log_targets: log p* at the particles, (replicas, L, particles); weights: (replicas, L). The effective sample
        size of fixed particles never grows with beta', so that bisection finds the largest beta'.
        """

        def enough(candidates: np.ndarray) -> np.ndarray:
            return relative_effective_sample_size(candidates - betas, log_targets, weights) >= self.level

        allowed, refused = betas, np.ones_like(betas)
        whole = enough(refused)
        for _ in range(BISECTIONS):
            middle = (allowed + refused) / 2
            keep = enough(middle)
            allowed, refused = np.where(keep, middle, allowed), np.where(keep, refused, middle)
        return np.where(whole, 1.0, allowed)


Rule = AdaAnn | EffectiveSampleSize


@dataclass(frozen=True)
class ScheduleCost:
    """The cost of a schedule, for each replica.

    Attributes
    ----------
    updates
        How often the rule changed beta before beta reached 1, (replicas,).
    steps_to_one
        Steps until beta reached 1, or -1 where it never did, (replicas,).
    rule_evaluations
        Evaluations of log p* by the rule, (replicas,).
    gradient_evaluations
        Evaluations of the gradient of log p* by the steps of the whole run, (replicas,).
    """

    updates: np.ndarray
    steps_to_one: np.ndarray
    rule_evaluations: np.ndarray
    gradient_evaluations: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AdaptiveRun(ParticleRun):
    """A ParticleRun whose beta is (n_out, replicas), with the cost of its schedule.

    Attributes
    ----------
    cost
        The cost of the schedule, for each replica. The other attributes are those of `ParticleRun`.
    """

    cost: ScheduleCost


def simulate_adaptively(
    initial_means: np.ndarray,
    target_means: np.ndarray,
    target: Mapping[str, np.ndarray],
    proposal: Mapping[str, np.ndarray],
    rule: Rule,
    dt: float,
    *,
    steps: int,
    particles: int,
    seed: int,
    manifold: Manifold = "sphere",
    learn: Sequence[str] = ("means",),
    record_every: int = 1,
    steps_after_one: int | None = None,
    precision: Precision = "float64",
    device: DeviceRequest = "auto",
    projected: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AdaptiveRun:
    """Run `simulate_particles` for `steps` steps under a rule.

    beta is rule.start_beta for rule.every steps; then the rule chooses it. steps_after_one: the run ends at the first
    record that comes this many steps after every replica has reached beta = 1; with None it runs all steps. The other
    arguments and the errors are those of `simulate_particles`. Here `particles` and `projected` concern the particles
    of the steps only: the rule draws its particles in all d dimensions. The result is a function of the arguments
    alone. Devices round differently, however, and a rule carries the difference into the betas.
    """
    if not isinstance(rule, Rule):
        raise ValueError(f"rule must be an AdaAnn or an EffectiveSampleSize, not {rule!r}")
    check_integer("steps", steps, 1, MAX_STEPS)
    simulation = prepare_simulation(
        initial_means,
        target_means,
        target,
        proposal,
        dt,
        particles=particles,
        seed=seed,
        manifold=manifold,
        learn=learn,
        precision=precision,
        device=device,
        projected=projected,
        objective=TEMPERED_REVERSE_KL,
    )
    if particles + rule.particles > MAX_PARTICLES:
        raise ValueError(
            f"the particles of steps and rule must be at most {MAX_PARTICLES} together, not "
            f"{particles + rule.particles}"
        )
    controller = _Controller(rule, simulation)
    run = run_and_record(
        simulation,
        steps,
        record_every,
        controller.betas_of_steps,
        stop_every=rule.every,
        ended=None if steps_after_one is None else lambda done: controller.settled(done, steps_after_one),
        progress=progress,
    )
    replicas, L, _ = run.final_means.shape
    cost = ScheduleCost(
        updates=controller.updates,
        steps_to_one=controller.steps_to_one,
        rule_evaluations=controller.updates * L * rule.particles,
        gradient_evaluations=np.full(replicas, round(float(run.t[-1]) / dt) * L * particles),
    )
    return AdaptiveRun(**vars(run), cost=cost)


class _Controller:
    """The replicas' betas along a run, with the counts for `ScheduleCost`."""

    def __init__(self, rule: Rule, simulation: ParticleSimulation):
        replicas = len(simulation.replicas.state().means)
        self._rule, self._simulation = rule, simulation
        self._betas = np.full(replicas, float(rule.start_beta))
        self.updates = np.zeros(replicas, int)
        self.steps_to_one = np.where(self._betas < 1, -1, 0)

    def betas_of_steps(self, first: int, last: int) -> np.ndarray:
        """The betas of steps first .. last - 1, (last - first, replicas).

        The rule changes the betas before step `first` where this number is a multiple of `every`.
        """
        rising = np.flatnonzero(self._betas < 1)
        if first > 0 and first % self._rule.every == 0 and len(rising) > 0:
            self._adjust(rising, first)
        return np.tile(self._betas, (last - first, 1))

    def settled(self, step: int, steps_after_one: int) -> bool:
        """Whether every replica has had beta = 1 for `steps_after_one` steps."""
        return bool((self._betas == 1).all()) and step >= self.steps_to_one.max() + steps_after_one

    def _adjust(self, rising: np.ndarray, step: int) -> None:
        simulation, state = self._simulation, self._simulation.replicas.state()
        log_targets = log_target_of_particles(
            state, simulation.target_means, rising, self._rule.particles, simulation.flow.seed, step
        )
        self._betas[rising] = self._rule.next_betas(self._betas[rising], log_targets, state.values[WEIGHTS, rising])
        self.updates[rising] += 1
        self.steps_to_one[rising[self._betas[rising] == 1]] = step


def mixture_variance(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An unbiased estimate of the variance of a function under the mixture q, an array (...) over the leading axes.

    values: the function at the same number of particles of each component, (..., L, particles); weights: (..., L). The
    estimate is the particles' variance within the components, plus the variance of the components' means, minus the
    part of the latter that comes from the errors of the means.
    """
    particles = values.shape[-1]
    within, means = values.var(axis=-1, ddof=1), values.mean(axis=-1)
    average = np.sum(weights * means, axis=-1, keepdims=True)
    return np.sum(weights * (within * (1 - (1 - weights) / particles) + (means - average) ** 2), axis=-1)


def relative_effective_sample_size(increments: np.ndarray, log_targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The relative effective sample size (E_q u)^2 / E_q u^2, (replicas,), for u = p*^increment.

    log_targets: log p* at the particles of q, (replicas, L, particles).
    """
    exponents = increments[:, None, None] * log_targets
    u = np.exp(exponents - exponents.max(axis=(1, 2), keepdims=True))
    return np.sum(weights * u.mean(axis=-1), axis=-1) ** 2 / np.sum(weights * (u**2).mean(axis=-1), axis=-1)


def _check_rule(every: Any, start_beta: Any, particles: Any) -> None:
    check_integer("every", every, 1, MAX_STEPS)
    check_integer("the rule's particles", particles, 2, MAX_PARTICLES)
    if not _is_number(start_beta) or not 0 <= start_beta <= 1:
        raise ValueError(f"start_beta must lie from 0 to 1, not {start_beta!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
