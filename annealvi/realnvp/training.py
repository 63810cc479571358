"""Training of flows on the tempered reverse KL, E_q[log q − β(t) log p*], by Adam in one compiled loop.

The usual gradient is the path gradient: log q is differentiated in x alone, and q's own parameters are held fixed in
it (sticking the landing: Roeder, Wu and Duvenaud, 2017; Vaitl, Nicoli, Nakajima and Kessel, 2022). The omitted term has
mean zero, but its variance does not vanish at q = p.
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
"""Steps in one call of the compiled loop. An interrupt waits for its end: some seconds in 128 dimensions."""
LAST_RATE = 0.01
"""Share of the learning rate at the end of a cosine decay, one step after the last."""


def require_positive(**given: float) -> None:
    """Raise BadInput for the first number that is not positive and finite, named as the command's option."""
    for name, number in given.items():
        if not 0 < number < math.inf:
            raise BadInput(f"--{name.replace('_', '-')}", f"{number} is not positive", "give a positive number", "")


@dataclass(frozen=True)
class Architecture:
    """The shape of a RealNVP flow.

    Attributes
    ----------
    layers : int
        Number of coupling layers.
    width, depth : int
        Width and number of the hidden layers of each of a coupling's two networks.
    kind : {"plain", "study"}
        "plain", or "study" for batch normalisation on each network's input, as in the code of the study's first
        author. Diagnoses use the running averages, so that log q is a density.

    Raises
    ------
    BadInput
        A number is not positive, or the kind is unknown.

    Examples
    --------
    >>> Architecture(layers=4, width=32)
    Architecture(layers=4, width=32, depth=3, kind='plain')
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
    """Adam and the gradient that it follows.

    Attributes
    ----------
    batch : int
        Number of samples of q in each step.
    learning_rate : float
        Learning rate of the first step.
    gradient : {"path", "total"}
        "path" for the path gradient, or "total" for the whole derivative of log q.
    decay : {"cosine", "constant"}
        "cosine", by which the learning rate falls to a hundredth, or "constant".
    clip : float or None
        Largest norm of a gradient; a longer gradient is scaled down to it. None for no limit.

    Raises
    ------
    BadInput
        A number is not positive, or `gradient` or `decay` is unknown.

    Examples
    --------
    >>> Optimiser(learning_rate=0.01, decay="constant").rates(2)
    array([0.01, 0.01], dtype=float32)
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
        """Return the learning rate of each step of a run.

        Parameters
        ----------
        steps : int
            How many steps the whole run has; a cosine falls over all of them.

        Returns
        -------
        ndarray
            Single-precision learning rates, shape (steps,).
        """
        if self.decay == "constant":
            return np.full(steps, self.learning_rate, np.float32)
        return np.asarray(
            optax.cosine_decay_schedule(self.learning_rate, steps, LAST_RATE)(np.arange(steps)), np.float32
        )


class Task(NamedTuple):
    """What belongs to each flow alone: its target, two axes (2, d) to project on, and its random key.

    The first axis of each array counts the flows.
    """

    target: Mixture
    axes: jax.Array
    key: jax.Array


class Rule(NamedTuple):
    """The numbers of an adaptive rule that may differ between runs with the same compiled loop.

    A schedule with a formula uses neither.
    """

    start_beta: jax.Array | float = 1.0
    strength: jax.Array | float = 0.0


class Steps(NamedTuple):
    """The schedule's β and the learning rate of each step, (steps,)."""

    beta: Any
    rate: Any


class State(NamedTuple):
    """The state of all flows, which are the first axis of each array.

    beta: (flows,) the β of the next step under an adaptive rule.
    """

    parameters: Any
    moments: Any
    beta: jax.Array


class Losses(NamedTuple):
    """The tempered loss E_q[log q] − β E_q[log p*] of each step before its update, and its β: (flows, steps)."""

    loss: Any
    beta: Any


@dataclass(frozen=True)
class Trainer:
    """The compiled functions of one setting. A flow's random numbers depend on its key and on the step alone.

    begin(tasks, rule) returns the first State. advance(state, tasks, rule, first step, steps, stopped) returns the next
    State with the Losses, or raises KeyboardInterrupt soon after stopped() is true. judge(state, tasks, step) returns
    Diagnostics. flow(state, n) returns the n-th flow.
    """

    begin: Callable[[Task, Rule], State]
    advance: Callable[..., tuple[State, Losses]]
    judge: Callable[[State, Task, int], Diagnostics]
    flow: Callable[[State, int], RealNVP]


INITIAL, TRAINING, JUDGING = 0, 1, 2
"""The purposes of a flow's random numbers; each has a stream of its own."""


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
        """Take `count` steps.

        The arrays of `steps` have room for more steps than that, so that every count shares one compiled loop.
        """
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
    """The function to differentiate; then the tempered loss, log p* (n,), and the flow with the moments of the batch.

    z: (n, d) standard normal samples. gradient: "path" or "total". For "path" only the derivative of the function has a
    meaning: log q enters by its score alone, which is held constant.
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
