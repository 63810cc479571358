"""Training on E_q[log q − β(t) log p*] by Adam: one compiled loop between two records, all flows side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from annealvi.flows.diagnostics import Diagnostics, diagnose
from annealvi.flows.realnvp import RealNVP
from annealvi.flows.target import Mixture
from annealvi.flows.tempering import next_beta


@dataclass(frozen=True)
class Architecture:
    """layers: coupling layers. width, depth: of the hidden layers of each of their two networks."""

    layers: int = 8
    width: int = 128
    depth: int = 3


@dataclass(frozen=True)
class Optimiser:
    """Adam. batch: samples of q in each step. learning_rate: constant."""

    batch: int = 256
    learning_rate: float = 1e-3


class Task(NamedTuple):
    """What each flow has to itself, in arrays whose first axis is the flows: its target, the two axes (2, d) to project on, its key."""

    target: Mixture
    axes: jax.Array
    key: jax.Array


class Rule(NamedTuple):
    """What of an adaptive rule may differ between runs that share their compiled loop. For a schedule with a formula neither matters."""

    start_beta: jax.Array | float = 1.0
    strength: jax.Array | float = 0.0


class State(NamedTuple):
    """Of all flows: every array has them as its first axis. beta: (flows,) at which the next step is taken, of an adaptive rule."""

    parameters: Any
    moments: Any
    beta: jax.Array


class Losses(NamedTuple):
    """Of each step, (flows, steps): the tempered loss E_q[log q] − β E_q[log p*] that was descended, and its β."""

    loss: jax.Array
    beta: jax.Array


@dataclass(frozen=True)
class Trainer:
    """The compiled functions of one setting, and the fixed parts of its flows.

    begin(tasks, rule) -> State. advance(state, tasks, rule, first step, betas (steps,)) -> State, Losses.
    judge(state, tasks, step) -> Diagnostics. flow(state, n) -> the n-th flow. What a flow draws depends on its key and the step alone.
    """

    begin: Callable[[Task, Rule], State]
    advance: Callable[[State, Task, Rule, int, jax.Array], tuple[State, Losses]]
    judge: Callable[[State, Task, int], Diagnostics]
    flow: Callable[[State, int], RealNVP]


INITIAL, TRAINING, JUDGING = 0, 1, 2
"""What a flow's draws are for: streams of random numbers that share nothing."""


@lru_cache(maxsize=8)
def make_trainer(
    dimension: int, architecture: Architecture, optimiser: Optimiser, samples: int, adaptive: str | None = None, interval: int = 1
) -> Trainer:
    """samples: of each diagnosis. adaptive: the kind of the rule that decides β instead of `betas`, every `interval` steps.

    One for each setting, kept, since compiling takes longer than thousands of small steps.
    """
    adam = optax.adam(optimiser.learning_rate)

    def new_flow(key: jax.Array) -> RealNVP:
        return RealNVP(dimension, architecture.layers, architecture.width, architecture.depth, key)

    fixed = eqx.partition(eqx.filter_eval_shape(new_flow, jax.random.key(0)), _is_array)[1]

    def begin(task: Task, rule: Rule) -> State:
        parameters = eqx.partition(new_flow(jax.random.fold_in(task.key, INITIAL)), eqx.is_inexact_array)[0]
        return State(parameters, adam.init(parameters), jnp.asarray(rule.start_beta, jnp.float32))

    def loss(parameters: Any, target: Mixture, key: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, log_q = eqx.combine(parameters, fixed).sample(key, optimiser.batch)
        log_target = jax.vmap(target.log_density)(x)
        return jnp.mean(log_q - beta * log_target), log_target

    def advance(state: State, task: Task, rule: Rule, first: jax.Array, betas: jax.Array) -> tuple[State, Losses]:
        stream = jax.random.fold_in(task.key, TRAINING)

        def step(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, Losses]:
            number, scheduled = now
            beta = scheduled if adaptive is None else state.beta
            (value, log_target), gradient = jax.value_and_grad(loss, has_aux=True)(
                state.parameters, task.target, jax.random.fold_in(stream, number), beta
            )
            updates, moments = adam.update(gradient, state.moments)
            adjusted = state.beta
            if adaptive is not None:
                due = (number + 1) % interval == 0
                adjusted = jnp.where(due, next_beta(adaptive, rule.strength, beta, log_target), beta)
            return State(optax.apply_updates(state.parameters, updates), moments, adjusted), Losses(value, beta)

        return jax.lax.scan(step, state, (first + jnp.arange(len(betas)), betas))

    def judge(state: State, task: Task, step: jax.Array) -> Diagnostics:
        flow = eqx.combine(state.parameters, fixed)
        return diagnose(flow, task.target, task.axes, jax.random.fold_in(jax.random.fold_in(task.key, JUDGING), step), samples)

    def one_flow(state: State, n: int) -> RealNVP:
        return eqx.combine(jax.tree.map(lambda a: a[n], state.parameters), fixed)

    return Trainer(
        # Not compiled as a whole: dozens of draws in one program take longer to compile than a short training.
        jax.vmap(begin, in_axes=(0, None)),
        jax.jit(jax.vmap(advance, in_axes=(0, 0, None, None, None)), donate_argnums=0),
        jax.jit(jax.vmap(judge, in_axes=(0, 0, None))),
        one_flow,
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)
