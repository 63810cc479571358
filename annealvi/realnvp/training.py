"""Training on E_q[log q − β(t) log p*] by Adam, some hundred steps at a time in one compiled loop.

The gradient is taken along the samples' paths: of log q only the dependence on x is differentiated, q's parameters held
fixed in it (sticking the landing: Roeder, Wu and Duvenaud, 2017; Vaitl, Nicoli, Nakajima and Kessel, 2022). What is
left out has mean zero, and a variance that does not vanish where q = p.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from annealvi.realnvp.couplings import RealNVP
from annealvi.realnvp.diagnostics import Diagnostics, diagnose
from annealvi.realnvp.target import Mixture
from annealvi.realnvp.tempering import next_beta
from derive.problem.arguments import require_choice, require_fields
from derive.problem.specification import BadInput

ARCHITECTURES = ("plain", "study")
GRADIENTS = ("path", "total")
DECAYS = ("cosine", "constant")
STEPS_AT_ONCE = 250
"""Those of the compiled loop, which an interrupt waits for: some seconds in 128 dimensions."""
LAST_RATE = 0.01
"""What is left of the learning rate when a cosine decay ends, one step after the last."""


def require_positive(**given: float) -> None:
    """BadInput for the first number that is none, or infinite; its name is an option of the command."""
    for name, number in given.items():
        if not 0 < number < math.inf:
            raise BadInput(f"--{name.replace('_', '-')}", f"{number} is not positive", "give a positive number", "")


@dataclass(frozen=True)
class Architecture:
    """layers: coupling layers. width, depth: of the hidden layers of each of their two networks.

    kind: "study" has batch normalisation on each network's input, as the study's first author's code has (with running
    averages where it is judged, so that log q is a density there); "plain" has none.
    """

    layers: int = 8
    width: int = 64
    depth: int = 3
    kind: str = "plain"

    def __post_init__(self) -> None:
        require_fields(self)
        require_choice("architecture", [self.kind], ARCHITECTURES)
        require_positive(layers=self.layers, width=self.width, depth=self.depth)


@dataclass(frozen=True)
class Optimiser:
    """Adam. batch: samples of q in each step. learning_rate: of the first step. decay: how it falls, "cosine" to
    LAST_RATE of it.

    gradient: "path", or "total" for all of log q's derivative. clip: the norm down to which gradients are scaled, or
    None.
    """

    batch: int = 256
    learning_rate: float = 1e-3
    gradient: str = "path"
    decay: str = "cosine"
    clip: float | None = None

    def __post_init__(self) -> None:
        require_fields(self)
        require_choice("gradient", [self.gradient], GRADIENTS)
        require_choice("decay", [self.decay], DECAYS)
        require_positive(batch=self.batch, learning_rate=self.learning_rate, clip=1 if self.clip is None else self.clip)

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate of each of a run's steps, (steps,)."""
        if self.decay == "constant":
            return np.full(steps, self.learning_rate, np.float32)
        return np.asarray(
            optax.cosine_decay_schedule(self.learning_rate, steps, LAST_RATE)(np.arange(steps)), np.float32
        )


class Task(NamedTuple):
    """What each flow has to itself, in arrays whose first axis is the flows: its target, the two axes (2, d) to project
    on, its key."""

    target: Mixture
    axes: jax.Array
    key: jax.Array


class Rule(NamedTuple):
    """What of an adaptive rule may differ between runs that share their compiled loop. For a schedule with a formula
    neither matters."""

    start_beta: jax.Array | float = 1.0
    strength: jax.Array | float = 0.0


class Steps(NamedTuple):
    """What is given for each step, (steps,): the schedule's β and the learning rate."""

    beta: Any
    rate: Any


class State(NamedTuple):
    """Of all flows: every array has them as its first axis. beta: (flows,) at which the next step is taken, of an
    adaptive rule."""

    parameters: Any
    moments: Any
    beta: jax.Array


class Losses(NamedTuple):
    """Of each step, (flows, steps): the tempered loss E_q[log q] − β E_q[log p*] that was descended, and its β."""

    loss: Any
    beta: Any


@dataclass(frozen=True)
class Trainer:
    """The compiled functions of one setting, and the fixed parts of its flows.

    begin(tasks, rule) -> State. advance(state, tasks, rule, first step, steps, stopped) -> State, Losses, or
    KeyboardInterrupt soon after `stopped` says so. judge(state, tasks, step) -> Diagnostics. flow(state, n) -> the n-th
    flow. What a flow draws depends on its key and the step alone.
    """

    begin: Callable[[Task, Rule], State]
    advance: Callable[..., tuple[State, Losses]]
    judge: Callable[[State, Task, int], Diagnostics]
    flow: Callable[[State, int], RealNVP]


INITIAL, TRAINING, JUDGING = 0, 1, 2
"""What a flow's draws are for: streams of random numbers that share nothing."""


@lru_cache(maxsize=8)
def make_trainer(
    dimension: int,
    architecture: Architecture,
    optimiser: Optimiser,
    samples: int,
    adaptive: str | None = None,
    interval: int = 1,
) -> Trainer:
    """The compiled functions of one setting, kept, since compiling takes longer than thousands of small steps.

    samples: number of samples in each diagnosis. adaptive: kind of the rule that decides β every `interval` steps; None
    for a schedule, whose β are given.
    """
    one = _OneFlow(dimension, architecture, optimiser, samples, adaptive, interval)
    advance_flows = jax.jit(jax.vmap(one.advance, in_axes=(0, 0, None, None, None, None)), donate_argnums=0)
    return Trainer(
        # Not compiled as a whole: dozens of draws in one program take longer to compile than a short training.
        jax.vmap(one.begin, in_axes=(0, None)),
        partial(_advance_interruptibly, advance_flows),
        jax.jit(jax.vmap(one.judge, in_axes=(0, 0, None))),
        lambda state, n: one.flow(jax.tree.map(lambda a: a[n], state.parameters)),
    )


class _OneFlow:
    """The functions of a single flow, which `make_trainer` maps over all flows of a run."""

    def __init__(
        self,
        dimension: int,
        architecture: Architecture,
        optimiser: Optimiser,
        samples: int,
        adaptive: str | None,
        interval: int,
    ) -> None:
        self.dimension, self.architecture, self.optimiser = dimension, architecture, optimiser
        self.samples, self.adaptive, self.interval = samples, adaptive, interval
        clip = [] if optimiser.clip is None else [optax.clip_by_global_norm(optimiser.clip)]
        self.adam = optax.chain(*clip, optax.scale_by_adam())
        self.fixed = eqx.partition(eqx.filter_eval_shape(self.new_flow, jax.random.key(0)), _is_array)[1]

    def new_flow(self, key: jax.Array) -> RealNVP:
        shape = self.architecture
        return RealNVP(self.dimension, shape.layers, shape.width, shape.depth, key, shape.kind == "study")

    def flow(self, parameters: Any) -> RealNVP:
        return eqx.combine(parameters, self.fixed)

    def begin(self, task: Task, rule: Rule) -> State:
        parameters = eqx.partition(self.new_flow(jax.random.fold_in(task.key, INITIAL)), eqx.is_inexact_array)[0]
        return State(parameters, self.adam.init(parameters), jnp.asarray(rule.start_beta, jnp.float32))

    def loss(
        self, parameters: Any, target: Mixture, key: jax.Array, beta: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, RealNVP]]:
        z = jax.random.normal(key, (self.optimiser.batch, self.dimension))
        return tempered_loss(self.flow(parameters), z, target.log_density, beta, self.optimiser.gradient)

    def advance(
        self, state: State, task: Task, rule: Rule, first: jax.Array, count: jax.Array, steps: Steps
    ) -> tuple[State, Losses]:
        """Take `count` steps. The arrays of `steps` have room for more, so that every count shares one compiled
        loop."""
        stream = jax.random.fold_in(task.key, TRAINING)

        def step(n: jax.Array, before: tuple[State, Losses]) -> tuple[State, Losses]:
            state, losses = before
            beta = steps.beta[n] if self.adaptive is None else state.beta
            key = jax.random.fold_in(stream, first + n)
            state, loss = self.step(state, task.target, key, beta, steps.rate[n], rule, first + n)
            return state, Losses(losses.loss.at[n].set(loss), losses.beta.at[n].set(beta))

        nothing = Losses(jnp.zeros_like(steps.beta), jnp.zeros_like(steps.beta))
        return jax.lax.fori_loop(0, count, step, (state, nothing))

    def step(
        self,
        state: State,
        target: Mixture,
        key: jax.Array,
        beta: jax.Array,
        rate: jax.Array,
        rule: Rule,
        number: jax.Array,
    ) -> tuple[State, jax.Array]:
        """One step of Adam at β; returns the loss with the new state. number: of the step within the whole run."""
        (_, (value, log_target, moved)), gradient = jax.value_and_grad(self.loss, has_aux=True)(
            state.parameters, target, key, beta
        )
        updates, moments = self.adam.update(gradient, state.moments)
        parameters = optax.apply_updates(state.parameters, jax.tree.map(lambda u: -rate * u, updates))
        flow = self.flow(parameters).remembering(moved, self.optimiser.batch)
        adjusted = state.beta
        if self.adaptive is not None:
            due = (number + 1) % self.interval == 0
            adjusted = jnp.where(due, next_beta(self.adaptive, rule.strength, beta, log_target), beta)
        return State(eqx.partition(flow, eqx.is_inexact_array)[0], moments, adjusted), value

    def judge(self, state: State, task: Task, step: jax.Array) -> Diagnostics:
        key = jax.random.fold_in(jax.random.fold_in(task.key, JUDGING), step)
        return diagnose(self.flow(state.parameters), task.target, task.axes, key, self.samples)


def _advance_interruptibly(
    advance_flows: Callable[..., tuple[State, Losses]],
    state: State,
    tasks: Task,
    rule: Rule,
    first: int,
    steps: Steps,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[State, Losses]:
    """Take all steps, STEPS_AT_ONCE in one call; before each call, `stopped` can end the training."""
    found = []
    for begun in range(0, len(steps.beta), STEPS_AT_ONCE):
        if stopped():
            raise KeyboardInterrupt
        given = [np.asarray(each[begun : begun + STEPS_AT_ONCE]) for each in steps]
        count = len(given[0])
        padded = Steps(*(np.pad(each, (0, STEPS_AT_ONCE - count)) for each in given))
        state, losses = advance_flows(state, tasks, rule, first + begun, count, padded)
        found.append([np.asarray(each)[:, :count] for each in losses])
    return state, Losses(*(np.concatenate(parts, 1) for parts in zip(*found, strict=True)))


def tempered_loss(
    flow: RealNVP, z: jax.Array, log_target: Callable[[jax.Array], jax.Array], beta: jax.Array | float, gradient: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, RealNVP]]:
    """What is differentiated; then E_q[log q] − β E_q[log p*] itself, log p* (n,), and the flow with the moments of the
    batch z (n, d).

    gradient: "path" or "total". A path gradient's function has no meaning of its own but for its derivative: log q
    enters by its score alone, which is a constant.
    """
    moved = flow.normalised_by(z)
    x, log_q = jax.vmap(moved.forward)(z)
    log_p = jax.vmap(log_target)(x)
    value = jnp.mean(log_q - beta * log_p)
    seen = jax.lax.stop_gradient((value, log_p, eqx.filter(moved, eqx.is_inexact_array)))
    if gradient == "total":
        return value, seen
    held = jax.tree.map(lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, moved)
    return jnp.mean(jnp.sum(jax.vmap(held.score)(z) * x, 1) - beta * log_p), seen


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)
