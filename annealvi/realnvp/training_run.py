"""`annealvi flow`: RealNVP flows trained on a problem's target, many seeds side by side, and their diagnostics."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from annealvi.annealing.betas import ANNEALED
from annealvi.collapse.outcome import Outcomes
from annealvi.components import MissingComponent
from annealvi.realnvp.checkpoint import fingerprint_of, load_checkpoint, save_checkpoint
from annealvi.realnvp.mode_coverage import MISSED, covered
from annealvi.realnvp.recovery import first_records, half_lives, sampling_error, weight_error
from annealvi.realnvp.side_by_side import computing_on, in_groups, number_of_threads
from annealvi.realnvp.target import turned
from annealvi.realnvp.tempering import AFTER_SETTLING_ALONE, betas_of, default_steps, steps_between_adjustments
from annealvi.realnvp.training import (
    Architecture,
    Optimiser,
    Rule,
    Steps,
    Task,
    Trainer,
    make_trainer,
    require_positive,
)
from annealvi.runs.costs import FASTER_TRAINING, Cost, require_affordable
from annealvi.show.output import PathLike
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.objective_scope import require_isotropic, require_tempered_reverse_kl
from derive.problem.schedules import AdaptiveRule, make_rule
from derive.problem.specification import BadInput, Problem
from kernels.machine.device import tell_of_fallback
from kernels.particles.simulation import DivergenceError

SAMPLES = 8192
"""Samples in each diagnosis. They give a divergence of 0.02 in 128 dimensions to some 0.002, in a few per cent of the
training time."""
KEPT_SAMPLES = 1000
"""Number of projected samples of each flow in the result."""
RECORDS = 20
FLOPS_PER_SECOND = {"cpu": 8e10, "gpu": 1e13}
"""Speed of training on one core (measured, right within a factor of two) and on a GPU (a guess)."""
SECONDS_PER_STEP = {"cpu": 3e-4, "gpu": 1e-4}
"""Overhead of one step of one flow."""
COMPILING = 15.0
"""Seconds of compilation (measured, for 2 to 8 couplings alike); next to none if JAX has the code in its cache."""


@dataclass(frozen=True)
class FlowRun:
    """The result of `annealvi.train_flow`.

    Attributes
    ----------
    data : xarray.Dataset
        The diagnostics, with axes seed, step (of the records), mode, sample and axis. Its variable `annealed_at` is the
        first step that each flow took at T <= 1.05, as known at each record; NaN before.
    device : str
        The device of the training, in words.
    method : str
        Architecture and optimiser, in words.
    """

    data: xr.Dataset
    device: str
    method: str

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.realnvp.flow_tables import print_flow
        from annealvi.show.printing import as_html

        return as_html(print_flow, self, "")

    @property
    def outcomes(self) -> Outcomes:
        """The modes that each flow covers in the end, and P(collapse) with its standard error."""
        return Outcomes(self.data["covered"].to_numpy().astype(bool))

    @property
    def weight_errors(self) -> np.ndarray:
        """Share of each flow's mass at the wrong mode in the end, (flows,); see `annealvi.realnvp.recovery`."""
        return weight_error(self.data["mode_weights"].isel(step=-1).to_numpy(), self.data["target_weights"].to_numpy())

    @property
    def sampling_error(self) -> float:
        """The value that chance alone lets the `weight_errors` of right weights exceed in one of a thousand cases."""
        return sampling_error(
            self.data["target_weights"].to_numpy(), json.loads(self.data.attrs["settings"])["samples"]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the command's JSON: lists with one entry for each seed, at the last record.

        The last record is at step `judged_at`. The half-life is null in JSON for a flow that did not recover, and for a
        flow without a record at T <= 1.05; its `annealed_at` tells the two apart.
        """
        last = self.data.isel(step=-1)
        return {
            "mode_weights": last["mode_weights"].to_numpy(),
            "projected_variance": last["projected_variance"].to_numpy(),
            "emc": last["entropic_mode_coverage"].to_numpy(),
            "ess": {"reverse": last["reverse_ess"].to_numpy(), "forward": last["forward_ess"].to_numpy()},
            "kl": {"reverse": last["reverse_kl"].to_numpy(), "forward": last["forward_kl"].to_numpy()},
            "uncovered": last["uncovered"].to_numpy(),
            "annealed_at": last["annealed_at"].to_numpy(),
            "half_life": last["half_life"].to_numpy(),
            "weight_error": self.weight_errors,
            "collapsed": self.outcomes.collapsed,
            **self.outcomes.as_dict(),
            "p_interval": self.outcomes.interval,
            "judged_at": int(last["step"]),
            "steps": int(last["step"]),
            "device": self.device,
            "method": self.method,
        }


@checked
def train_flow(
    problem: Problem,
    *,
    steps: int | None = None,
    seeds: int = 4,
    architecture: Architecture | None = None,
    optimiser: Optimiser | None = None,
    time_per_step: float = 1.0,
    records: int = RECORDS,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "auto",
    checkpoint: PathLike | None = None,
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> FlowRun:
    """Train RealNVP flows on a problem's target under its schedule, and diagnose mode collapse.

    Each flow is trained on the tempered reverse KL, E_q[log q] − β E_q[log p*]. Its target is turned to a random
    direction of its own.

    Parameters
    ----------
    problem : Problem
        Target, schedule and dimension; the proposal is not used.
    steps : int, optional
        Number of optimiser steps; None for the schedule's settling time and 20000 more.
    seeds : int, optional
        Number of flows.
    architecture, optimiser : Architecture and Optimiser, optional
        Shape of the flows, and how they are trained; None for the defaults.
    time_per_step : float, optional
        The schedule's time per optimiser step.
    records : int, optional
        Number of diagnoses at even distances, besides the one at the start.
    samples : int, optional
        Number of samples in each diagnosis.
    seed : int, optional
        Seed of all random numbers. Flow n depends on (seed, n) and not on the number of flows, up to the rounding of
        differently grouped sums.
    device : {"auto", "cpu", "cuda"}, optional
        "cpu", "cuda", or "auto" for a GPU if JAX has one.
    checkpoint : path-like, optional
        File that is updated after each record; a run with the same settings goes on from it.
    max_cost : float, optional
        Longest expected time in seconds; a run that is expected to take longer is refused.
    progress : callable, optional
        Called with (steps done, steps in all).
    tell : callable, optional
        Called with a line that says how long the run may take.

    Returns
    -------
    FlowRun
        Its `data` has the diagnostics with axes seed, step, mode, sample and axis; `outcomes` says which modes each
        flow covers in the end.

    Raises
    ------
    BadInput
        An argument is wrong, the problem has one dimension, or the run would cost more than `max_cost`.
    MissingComponent
        JAX has no such device.
    DivergenceError
        A flow is no longer finite.

    Examples
    --------
    >>> import annealvi
    >>> problem = annealvi.load_problem("bimodal", ["space.dimension=2", "schedule.T0=30", "schedule.t0=300"])
    >>> run = annealvi.train_flow(problem, steps=2000, seeds=4)  # doctest: +SKIP
    >>> run.outcomes.collapsed  # doctest: +SKIP
    array([False, False, False, False])
    """
    architecture, optimiser = architecture or Architecture(), optimiser or Optimiser()
    require_positive(seeds=seeds, records=records, samples=samples, time_per_step=time_per_step)
    dimension, rule = _trainable_dimension(problem, architecture, optimiser), make_rule(problem.schedule)
    total = default_steps(problem.schedule, rule, time_per_step, AFTER_SETTLING_ALONE) if steps is None else steps
    require_positive(steps=total)
    bounds = np.unique(np.linspace(0, total, min(records, total) + 1).round().astype(int))
    where = device_of(device)
    cost = cost_of(dimension, architecture, optimiser, seeds, total, where.platform, samples * len(bounds))
    seconds = COMPILING + cost.seconds / number_of_threads(seeds, where.platform)
    require_affordable(Cost(seconds, f"{cost.basis}, and compiling"), max_cost, FASTER_TRAINING, tell)
    settings = settings_of(
        problem,
        where,
        architecture=architecture,
        optimiser=optimiser,
        steps=total,
        seeds=seeds,
        time_per_step=time_per_step,
        records=records,
        samples=samples,
        seed=seed,
    )
    with computing_on(where):
        trainer, given, adaptive = _prepared(problem, rule, architecture, optimiser, samples, total, time_per_step)
        tasks = _tasks(problem, seed, seeds)
        kept = None if checkpoint is None else Path(checkpoint)
        found = list(_records(trainer, where, tasks, adaptive, given, bounds, kept, fingerprint_of(settings), progress))
    data = _dataset(found, bounds, tasks, settings, samples)
    return FlowRun(data, describe(where), method_of(architecture, optimiser, total))


def _trainable_dimension(problem: Problem, architecture: Architecture, optimiser: Optimiser) -> int:
    """The problem's dimension; raises BadInput if such a flow cannot be trained there."""
    require_tempered_reverse_kl(problem, "RealNVP flows are trained on", "leave it out")
    require_isotropic(problem, "RealNVP flows are trained on mixtures of", "leave the covariances out")
    if architecture.kind == "study" and optimiser.batch < 2:
        raise BadInput(
            "--batch", "one sample has no variance to normalise by", "choose at least 2 with --architecture study", ""
        )
    if problem.space.dimension < 2:
        raise BadInput(
            "space.dimension", "a coupling layer has nothing to couple in one dimension", "choose at least 2", "problem"
        )
    return problem.space.dimension


def _prepared(
    problem: Problem,
    rule: AdaptiveRule | None,
    architecture: Architecture,
    optimiser: Optimiser,
    samples: int,
    steps: int,
    time_per_step: float,
) -> tuple[Trainer, Steps, Rule]:
    """The compiled functions, the β and learning rate of each step, and the numbers of an adaptive rule.

    Under an adaptive rule all steps have the first β, which the rule raises.
    """
    # The learning rate and its decay are data of the compiled loop, so they are no part of its key.
    dimension, compiled, rates = (
        problem.space.dimension,
        replace(optimiser, learning_rate=1.0, decay="constant"),
        optimiser.rates(steps),
    )
    if rule is None:
        betas = betas_of(problem.schedule, steps, time_per_step)
        return (
            make_trainer(dimension, architecture, compiled, samples),
            Steps(jnp.asarray(betas), jnp.asarray(rates)),
            Rule(),
        )
    trainer = make_trainer(
        dimension, architecture, compiled, samples, rule.kind, steps_between_adjustments(rule, time_per_step)
    )
    return (
        trainer,
        Steps(jnp.full(steps, rule.start_beta, jnp.float32), jnp.asarray(rates)),
        Rule(rule.start_beta, rule.strength),
    )


def settings_of(problem: Problem, where: Any, **settings: Any) -> dict[str, Any]:
    """Everything that decides a result, in plain values. where: the JAX device."""
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in settings.items()
    }
    versions = {name: version(name) for name in ("annealvi", "jax", "jaxlib", "equinox", "optax")}
    return {"problem": dataclasses.asdict(problem), **plain, "device": where.device_kind, "versions": versions}


def method_of(architecture: Architecture, optimiser: Optimiser, steps: int | str) -> str:
    """Architecture, optimiser and number of steps in words."""
    kind = "" if architecture.kind == "plain" else " and batch normalisation (--architecture study)"
    decay = " falling as a cosine" if optimiser.decay == "cosine" else ""
    clip = "" if optimiser.clip is None else f", clipped at {optimiser.clip:g}"
    return (
        f"RealNVP of {architecture.layers} couplings, {architecture.depth} × {architecture.width} hidden "
        f"units{kind}, {optimiser.gradient} "
        f"gradients{clip}, Adam at {optimiser.learning_rate:g}{decay}, batch {optimiser.batch}, {steps} steps, float32"
    )


def describe(where: Any) -> str:
    """A JAX device in words."""
    return f"{where.platform} ({where.device_kind})"


def _tasks(problem: Problem, seed: int, flows: int) -> Task:
    """The target of each flow, turned to a direction of its own, with its axes and its random key."""
    mixtures, axes = zip(*(turned(problem.target, problem.space.dimension, seed, n) for n in range(flows)), strict=True)
    words = np.random.SeedSequence(seed).generate_state(1)  # a key takes 32 bits, a seed may have 64
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(int(words[0])), n))(jnp.arange(flows))
    return Task(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures), jnp.asarray(np.array(axes), jnp.float32), keys
    )


def _records(
    trainer: Trainer,
    where: Any,
    tasks: Task,
    rule: Rule,
    given: Steps,
    bounds: np.ndarray,
    checkpoint: Path | None,
    fingerprint: str,
    progress: Callable[[int, int], None] | None,
) -> Iterator[dict[str, np.ndarray]]:
    """Train from bound to bound, and yield one record for each; the checkpoint is written after each."""
    state = trainer.begin(tasks, rule)
    kept = None if checkpoint is None else load_checkpoint(checkpoint, fingerprint, state)
    if kept is None:
        records = [_record(trainer, where, state, tasks, 0, float(given.beta[0]))]
    else:
        state, records = kept
    for first, stop in zip(bounds[len(records) - 1 : -1], bounds[len(records) :], strict=True):
        if progress is not None:
            progress(int(first), int(bounds[-1]))
        steps = Steps(*(each[first:stop] for each in given))
        state, (loss, beta) = in_groups(
            trainer.advance, where, (state, tasks), rule, int(first), steps, interruptible=True
        )
        _require_finite("loss", loss, int(first))
        annealed = np.fmin(records[-1]["annealed_at"], _first_annealed(beta, int(first)))
        records.append(_record(trainer, where, state, tasks, int(stop), beta[:, -1], loss.mean(1), annealed))
        # The last update of all has no loss after it that would tell.
        _require_finite("density", records[-1]["reverse_kl"][:, None], int(stop))
        if checkpoint is not None:
            save_checkpoint(checkpoint, fingerprint, state, records)
    yield from records


def _require_finite(what: str, values: np.ndarray, first: int) -> None:
    """Raise DivergenceError for the first value that is not finite. values: (flows, steps from `first` on)."""
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        flow, step = wrong[wrong[:, 1].argmin()]
        raise DivergenceError(
            f"the {what} of flow {flow} is not finite at step {first + step}; take a smaller learning rate"
        )


def _first_annealed(beta: np.ndarray, first: int) -> np.ndarray:
    """The first step of each flow at T <= 1 + ANNEALED, or NaN: (flows,). beta: (flows, steps from `first` on)."""
    there = beta >= 1 / (1 + ANNEALED) - 1e-6  # β is in single precision
    return np.where(there.any(1), first + there.argmax(1), np.nan)


def _record(
    trainer: Trainer,
    where: Any,
    state: Any,
    tasks: Task,
    step: int,
    beta: Any,
    loss: Any = math.nan,
    annealed_at: Any = math.nan,
) -> dict[str, np.ndarray]:
    """The diagnostics at a step, the β of the step before, and the mean loss since the last record."""
    diagnoses = in_groups(trainer.judge, where, (state, tasks), step)
    judged = {name: np.asarray(value) for name, value in diagnoses._asdict().items()}
    judged["projection"] = judged["projection"][:, :KEPT_SAMPLES]
    each = np.ones(len(tasks.key), np.float32)
    return {
        **judged,
        "beta": np.float32(beta) * each,
        "loss": np.float32(loss) * each,
        "annealed_at": np.float64(annealed_at) * each,
    }


def _dataset(
    records: list[dict[str, np.ndarray]], bounds: np.ndarray, tasks: Task, settings: dict[str, Any], samples: int
) -> xr.Dataset:
    columns = {name: np.stack([r[name] for r in records], 1) for name in records[0] if name != "projection"}
    of_modes = columns.pop("mode_weights")
    wanted = np.asarray(tasks.target.weights[0])
    annealed = columns["annealed_at"][:, -1]
    recovery = half_lives(bounds, weight_error(of_modes, wanted), annealed, sampling_error(wanted, samples))
    coordinates = {"seed": np.arange(of_modes.shape[0]), "step": bounds, "mode": np.arange(len(wanted))}
    return xr.Dataset(
        {
            **{name: (("seed", "step"), values) for name, values in columns.items()},
            "mode_weights": (("seed", "step", "mode"), of_modes),
            "target_weights": ("mode", wanted),
            "projected_modes": (("seed", "mode", "axis"), np.asarray(tasks.target.modes @ tasks.axes.swapaxes(1, 2))),
            "projection": (("seed", "sample", "axis"), records[-1]["projection"]),
            "covered": (("seed", "mode"), covered(of_modes[:, -1], wanted)),
            "annealed_weights": (("seed", "mode"), of_modes[np.arange(len(of_modes)), first_records(bounds, annealed)]),
            "half_life": ("seed", recovery),
        },
        coordinates,
        {
            "settings": fingerprint_of(settings),
            "title": "RealNVP under tempered reverse KL; the schedule's time is steps × time_per_step",
            "covered": f"modes that have at least {MISSED:g} of their own weight at the last step",
            "annealed_weights": "those of the first record after a step at T <= 1.05",
            "half_life": "steps in which the mode weights' error halves from its largest since then; 0: "
            "it was none; inf: not seen",
        },
    )


def device_of(request: str) -> Any:
    """The JAX device for "auto", "cpu" or "cuda".

    Raises MissingComponent if JAX has no such device or the device does not compute.
    """
    if request not in ("auto", "cpu", "cuda"):
        raise BadInput("--device", f"{request!r} is no device", "choose auto, cpu or cuda", "")
    try:
        where = jax.devices()[0] if request == "auto" else jax.devices(request)[0]
    except RuntimeError:
        raise MissingComponent(
            'JAX sees no CUDA device: install `pip install "jax[cuda13]"` on a machine with an NVIDIA '
            "GPU, or leave out --device cuda"
        ) from None
    if where.platform == "cpu" or not (fault := _fault_of(where)):
        return where
    reason = f"JAX cannot use the GPU that is there ({fault}): update its driver, or install a JAX for an older CUDA"
    if request == "cuda":
        raise MissingComponent(reason)
    tell_of_fallback(reason)
    return jax.devices("cpu")[0]


@cache
def _fault_of(where: Any) -> str:
    """The reason why a device cannot compute, or "". A small function is compiled and run there once in a process."""
    try:
        jax.block_until_ready(jax.jit(jnp.exp)(jax.device_put(np.ones(4, np.float32), where)))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return ""


def cost_of(
    dimension: int,
    architecture: Architecture,
    optimiser: Optimiser,
    seeds: int,
    steps: int,
    platform: str,
    judged: int = 0,
) -> Cost:
    """The cost of training on a JAX platform, without compilation. judged: samples in all diagnoses of one flow."""
    width, kind = architecture.width, "cpu" if platform == "cpu" else "gpu"
    products = 2 * architecture.layers * (dimension * width + (architecture.depth - 1) * width**2)
    # A gradient costs twice its value, a path gradient's score as much as one value; a diagnosis has two passes.
    passes = 4.0 if optimiser.gradient == "path" else 3.0
    flops = products * seeds * (2 * passes * optimiser.batch * steps + 4.0 * judged)
    seconds = flops / FLOPS_PER_SECOND[kind] + steps * seeds * SECONDS_PER_STEP[kind]
    return Cost(seconds, f"{flops:.2g} operations for {seeds} flows of {steps} steps on {platform}")
