"""`annealvi flow`: a RealNVP flow trained on the problem's target, many seeds side by side, with what tells collapse
from coverage."""

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
from derive.problem.schedules import AdaptiveRule, make_rule
from derive.problem.specification import BadInput, Problem
from kernels.machine.device import tell_of_fallback
from kernels.particles.simulation import DivergenceError

SAMPLES = 8192
"""Of each judgement: a divergence of 0.02 in 128 dimensions is then known to some 0.002, and judging takes a few per
cent of the time."""
KEPT_SAMPLES = 1000
"""Projected samples of each seed that the result keeps."""
RECORDS = 20
FLOPS_PER_SECOND = {"cpu": 8e10, "gpu": 1e13}
"""What training reaches on a core (measured, right within a factor of two) and on a GPU (a guess)."""
SECONDS_PER_STEP = {"cpu": 3e-4, "gpu": 1e-4}
"""What a step of one seed takes besides."""
COMPILING = 15.0
"""Seconds that compiling takes (measured, from 2 to 8 couplings alike); next to none where JAX has kept the code."""


@dataclass(frozen=True)
class FlowRun:
    """data: the labelled result, with axes seed, step (of the records), mode, sample and axis. device, method: what
    ran, in words.

    The variable annealed_at is the first step that each flow took at T <= 1.05, as known at each record; NaN before.
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
        """Which modes each flow covers in the end, and P(collapse) with its standard error."""
        return Outcomes(self.data["covered"].to_numpy().astype(bool))

    @property
    def weight_errors(self) -> np.ndarray:
        """(flows,) the share of each flow's mass that is with the wrong mode in the end, see
        `annealvi.realnvp.recovery`."""
        return weight_error(self.data["mode_weights"].isel(step=-1).to_numpy(), self.data["target_weights"].to_numpy())

    @property
    def sampling_error(self) -> float:
        """What `weight_errors` of right weights seldom exceeds, counted in as many samples."""
        return sampling_error(
            self.data["target_weights"].to_numpy(), json.loads(self.data.attrs["settings"])["samples"]
        )

    def as_dict(self) -> dict[str, Any]:
        """The keys of the command's JSON; every list has one entry for each seed, of the last record, which is at step
        judged_at.

        JSON's null stands for a half-life of a flow that did not recover, or that no record judges at T <= 1.05 (its
        annealed_at tells).
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
    """Train `seeds` flows on the problem's target under its schedule, whose time is the number of steps times
    `time_per_step`.

    steps: of the optimiser; None for the schedule's settling time and 20000 more. records: how often, evenly, the flows
    are judged besides the start. samples: of each diagnosis. seed: of everything; flow n of a run depends on (seed, n),
    not on how many there are, up to the rounding of differently grouped sums. device: "auto", "cpu" or "cuda".
    checkpoint: a file that is kept up to date, and from which a run with the same settings goes on; max_cost: seconds
    that it may be expected to take. Raises BadInput, MissingComponent where JAX has no such device, DivergenceError
    where a flow is no longer finite.
    """
    architecture, optimiser = architecture or Architecture(), optimiser or Optimiser()
    require_positive(seeds=seeds, records=records, samples=samples, time_per_step=time_per_step)
    if architecture.kind == "study" and optimiser.batch < 2:
        raise BadInput(
            "--batch", "one sample has no variance to normalise by", "choose at least 2 with --architecture study", ""
        )
    dimension, rule = problem.space.dimension, make_rule(problem.schedule)
    if dimension < 2:
        raise BadInput(
            "space.dimension", "a coupling layer has nothing to couple in one dimension", "choose at least 2", "problem"
        )
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
        **{
            "steps": total,
            "seeds": seeds,
            "time_per_step": time_per_step,
            "records": records,
            "samples": samples,
            "seed": seed,
        },
    )
    with computing_on(where):
        trainer, given, adaptive = _prepared(problem, rule, architecture, optimiser, samples, total, time_per_step)
        tasks = _tasks(problem, seed, seeds)
        kept = None if checkpoint is None else Path(checkpoint)
        found = list(_records(trainer, where, tasks, adaptive, given, bounds, kept, fingerprint_of(settings), progress))
    data = _dataset(found, bounds, tasks, settings, samples)
    return FlowRun(data, describe(where), method_of(architecture, optimiser, total))


def _prepared(
    problem: Problem,
    rule: AdaptiveRule | None,
    architecture: Architecture,
    optimiser: Optimiser,
    samples: int,
    steps: int,
    time_per_step: float,
) -> tuple[Trainer, Steps, Rule]:
    """The compiled functions, β of each step (the first one's, where a rule raises it) with its learning rate, and the
    rule's numbers."""
    # What compiling does not depend on is left out of its key: runs that differ in it alone share a compiled loop.
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
    """All that decides a result, in plain values. where: the JAX device."""
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in settings.items()
    }
    versions = {name: version(name) for name in ("annealvi", "jax", "jaxlib", "equinox", "optax")}
    return {"problem": dataclasses.asdict(problem), **plain, "device": where.device_kind, "versions": versions}


def method_of(architecture: Architecture, optimiser: Optimiser, steps: int | str) -> str:
    """What ran, in words."""
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
    """Each flow's own target, turned its own way, and its own key."""
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
    """One record for each bound; the checkpoint is written after each."""
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
    """values: (flows, steps from `first` on)."""
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        flow, step = wrong[wrong[:, 1].argmin()]
        raise DivergenceError(
            f"the {what} of flow {flow} is not finite at step {first + step}; take a smaller learning rate"
        )


def _first_annealed(beta: np.ndarray, first: int) -> np.ndarray:
    """(flows,) the first step at T <= 1 + ANNEALED, of β (flows, steps from `first` on); NaN where there is none."""
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
    """The diagnoses at a step; β of the step before and the mean loss of the steps since the last record."""
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
    """The JAX device of a request "auto", "cpu" or "cuda". Raises MissingComponent where JAX has no such device, or it
    does not compute."""
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
    """Why a device cannot compute, found by a small function that is compiled and run there, once in a process."""
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
    """What training costs on a JAX platform, without compiling. judged: samples of all diagnoses of one flow."""
    width, kind = architecture.width, "cpu" if platform == "cpu" else "gpu"
    products = 2 * architecture.layers * (dimension * width + (architecture.depth - 1) * width**2)
    # A gradient is twice its value, and a path gradient's score as much as another value; a diagnosis has two passes.
    passes = 4.0 if optimiser.gradient == "path" else 3.0
    flops = products * seeds * (2 * passes * optimiser.batch * steps + 4.0 * judged)
    seconds = flops / FLOPS_PER_SECOND[kind] + steps * seeds * SECONDS_PER_STEP[kind]
    return Cost(seconds, f"{flops:.2g} operations for {seeds} flows of {steps} steps on {platform}")
