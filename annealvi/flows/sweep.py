"""Flows under many schedules: a map over two numbers of the problem, or kinds of schedule side by side at equal numbers of steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from annealvi.betas import ANNEALED, schedule_within
from annealvi.collapse.family import KEYS
from annealvi.collapse.outcome import Outcomes
from annealvi.collapse.phase import Axis
from annealvi.collapse.recommend import KINDS as FORMULAS
from annealvi.costs import Cost, require_affordable
from annealvi.flows.checkpoint import fingerprint_of
from annealvi.flows.coverage import MISSED, covered
from annealvi.flows.run import cost_of, describe, device_of, method_of, settings_of, train_flow
from annealvi.flows.tempering import AFTER_SETTLING, default_steps
from annealvi.flows.training import Architecture, Optimiser
from annealvi.rows import Rows
from derive.problem import BadInput, Problem, ScheduleSpec
from derive.schedules import make_rule, make_schedule
from kernels.particles import DivergenceError

KINDS = (*FORMULAS, "adaann")
ADAANN_INTERVAL = 10.0
"""Steps between two adjustments of β, where kinds are compared."""
MOST_CELLS = 10_000
STRIDE = 250
"""Steps between two looks at a flow. Cells whose numbers of steps are multiples of it share one compiled loop."""

LAST = (
    *("projected_variance", "entropic_mode_coverage", "reverse_ess", "forward_ess", "uncovered", "reverse_kl", "forward_kl"),
    *("beta", "annealed_at"),
)
"""What a sweep keeps of each flow's last record, besides its mode weights."""


@dataclass(frozen=True)
class Training:
    """How each flow is trained; the schedule is the cell's.

    steps: of every cell, or None: each cell then has `after` steps once its schedule has come to T = 1.05 (rounded up to STRIDE), so that
    all are judged after the same time at the target's own temperature. seed: of the first cell; the n-th has seed + n: flows of its own.
    """

    steps: int | None = None
    after: int = AFTER_SETTLING
    seeds: int = 4
    architecture: Architecture = field(default_factory=Architecture)
    optimiser: Optimiser = field(default_factory=Optimiser)
    time_per_step: float = 1.0
    samples: int = 2048
    seed: int = 0
    device: str = "auto"


def flow_map(problem: Problem, x: Axis, y: Axis, training: Training | None = None, **options: Any) -> xr.Dataset:
    """Flows over two numbers of the problem, as a dataset over (y, x, seed): p, stderr, and what LAST names.

    p_low and p_high are Clopper and Pearson's 95 % interval. The time scale t0 counts steps over `training.time_per_step`. options: rows, a
    folder that keeps finished cells, from which an interrupted map goes on to the same result; max_cost, progress, tell as in `train_flow`.
    A cell in which a flow is no longer finite is NaN, its `collapsed` too. Raises BadInput.
    """
    if x.key == y.key:
        raise BadInput("--y", f"{y.key!r} is the key of --x already", "vary another key", "")
    for axis in (x, y):
        if axis.key == "w_1":
            raise BadInput("axis", "a flow has no 'w_1'", "vary another key", "")
        names = {"T0", "t0"} if make_rule(problem.schedule) else {p.name for p in make_schedule(problem.schedule).parameters}
        if axis.key.startswith("schedule.") and axis.key.removeprefix("schedule.") not in names:
            found = f"schedule.kind {problem.schedule.kind!r} has no such number"
            raise BadInput(axis.key, found, "vary another key or choose another kind", "")
    _require_few(len(x.values) * len(y.values))
    problems = [KEYS[y.key](KEYS[x.key](problem, float(u)), float(v)) for v in y.values for u in x.values]
    training = training or Training()
    data = _train_all(problems, [_steps_of(p, training) for p in problems], training, options)
    shape = len(y.values), len(x.values)
    places = {y.key: y.values, x.key: x.values}
    return xr.Dataset(
        {name: ((y.key, x.key, *array.dims[1:]), array.to_numpy().reshape(*shape, *array.shape[1:])) for name, array in data.items()},
        places,
        data.attrs,
    )


def compare_kinds(
    problem: Problem,
    temperatures: Sequence[float],
    kinds: Sequence[str] = KINDS,
    anneal: int = 1500,
    training: Training | None = None,
    **options: Any,
) -> xr.Dataset:
    """Kinds of schedule at equal numbers of steps, each from every one of the temperatures, and no annealing: over (schedule, seed).

    Every schedule reaches T = 1.05 after `anneal` steps (`hold` jumps there). AdaAnn decides for itself, and `annealed_at` says when:
    its τ, √(d/2) log T0 × interval / anneal, makes it as long where q follows p^β and that is nearly Gaussian; a flow that has not come to
    T0 yet has a smaller variance, and steps ahead. The dataset's coordinates kind, T0, t0, tau and steps say which is which. The kind
    "none" is β = 1 throughout, twice: for as many steps as the others have in all, and for as many as they have at T <= 1.05.
    training, options: as of `flow_map`; steps None are `training.after` once annealed.
    """
    if not kinds or not len(temperatures):
        raise BadInput("--kinds", "there is nothing to compare", "give at least one kind and one T0", "")
    if twice := [kind for kind in kinds if list(kinds).count(kind) > 1]:
        raise BadInput("--kinds", f"{twice[0]!r} stands there twice", "name each kind once", "")
    if stray := [kind for kind in kinds if kind not in KINDS]:
        raise BadInput("--kinds", f"{stray[0][:40]!r} has no T0 to choose", f"choose from {', '.join(KINDS)}", "")
    if not min(temperatures) > 1 + ANNEALED:
        raise BadInput("--x", f"T0 = {min(temperatures):g} leaves nothing to anneal", f"begin above T0 = {1 + ANNEALED:g}", "")
    training = training or Training()
    steps = anneal + training.after if training.steps is None else training.steps
    if not steps > anneal:
        raise BadInput("--anneal", f"{anneal} of {steps} steps leave none at T = 1", "anneal for fewer steps, or give more --steps", "")
    _require_few(len(kinds) * len(temperatures))
    scale, d = anneal * training.time_per_step, problem.space.dimension
    specs = [ScheduleSpec("constant", 1.0, 1.0)] * 2
    specs += [spec_of_kind(kind, T0, scale, d, training.time_per_step) for kind in kinds for T0 in temperatures]
    counts = [steps, steps - anneal] + [steps] * (len(specs) - 2)
    data = _train_all([replace(problem, schedule=spec) for spec in specs], counts, training, options)
    places = {
        "kind": ["none", "none", *(spec.kind for spec in specs[2:])],
        "T0": [spec.T0 for spec in specs],
        "t0": [spec.t0 for spec in specs],
        "tau": [math.nan if spec.tau is None else spec.tau for spec in specs],
        "steps": counts,
    }
    data = data.drop_vars("steps")
    return data.rename(cell="schedule").assign_coords({name: ("schedule", values) for name, values in places.items()})


def spec_of_kind(kind: str, T0: float, duration: float, dimension: int, time_per_step: float = 1.0) -> ScheduleSpec:
    """The schedule of a kind that takes `duration` from T0 to T = 1.05."""
    if kind == "adaann":
        interval = ADAANN_INTERVAL * time_per_step
        return ScheduleSpec(kind, T0, interval, tau=math.sqrt(dimension / 2) * math.log(T0) * interval / duration)
    return schedule_within(kind, T0, duration)


def _require_few(cells: int) -> None:
    if cells > MOST_CELLS:
        raise BadInput("--x", f"{cells} cells", f"ask for at most {MOST_CELLS}", "")


def _steps_of(problem: Problem, training: Training) -> int:
    if training.steps is not None:
        return training.steps
    needed = default_steps(problem.schedule, make_rule(problem.schedule), training.time_per_step, training.after, ANNEALED)
    return STRIDE * math.ceil(needed / STRIDE)


def _train_all(problems: list[Problem], steps: list[int], training: Training, options: dict[str, Any]) -> xr.Dataset:
    """All cells, one after the other, each for its own number of steps with all its seeds side by side: over (cell, seed)."""
    rows: Path | None = options.get("rows")
    progress: Callable[[int, int], None] | None = options.get("progress")
    tell: Callable[[str], None] | None = options.get("tell")
    where, total = device_of(training.device), sum(steps)
    size = training.architecture, training.optimiser, training.seeds
    seconds = sum(
        cost_of(p.space.dimension, *size, n, where.platform, training.samples * _records(n)).seconds
        for p, n in zip(problems, steps, strict=True)
    )
    cost = Cost(seconds, f"{len(problems)} cells of {training.seeds} flows, {total} steps in all, on {where.platform}")
    require_affordable(cost, options.get("max_cost"), "take fewer cells, --steps or --seeds, or raise --max-cost", tell)
    common = {f.name: getattr(training, f.name) for f in dataclasses.fields(training) if f.name != "after"}
    runs = [{**common, "steps": count, "seed": training.seed + n} for n, count in enumerate(steps)]
    settings = [settings_of(p, where, **run) for p, run in zip(problems, runs, strict=True)]
    store = Rows(rows, fingerprint_of({"cells": settings}))
    found = []
    for n, (problem, run) in enumerate(zip(problems, runs, strict=True)):
        cell = store.read(n)
        if cell is None:
            cell = _cell(problem, run, tell)
            store.write(n, cell)
        found.append(cell)
        if progress is not None:
            progress(n + 1, len(problems))
    values = np.array(found)  # cells, seeds, LAST and the mode weights
    weights = values[..., len(LAST) :]
    wanted = np.array([p.target.weights for p in problems])
    outcomes = [Outcomes(cell) for cell in covered(weights, wanted[:, None])]
    failed = np.isnan(weights).any((1, 2))
    low, high = np.transpose([o.interval for o in outcomes])
    shares = {"p": [o.p for o in outcomes], "stderr": [o.stderr for o in outcomes], "p_low": low, "p_high": high}
    return xr.Dataset(
        {
            **{name: ("cell", np.where(failed, np.nan, share)) for name, share in shares.items()},
            "steps": ("cell", np.array(steps)),
            **{name: (("cell", "seed"), values[..., k]) for k, name in enumerate(LAST)},
            "mode_weights": (("cell", "seed", "mode"), weights),
            "collapsed": (("cell", "seed"), np.where(failed[:, None], np.nan, [o.collapsed for o in outcomes])),
            "target_weights": (("cell", "mode"), wanted),
            "weight_error": (("cell", "seed"), 0.5 * np.abs(weights - wanted[:, None]).sum(2)),
        },
        attrs={
            "settings": fingerprint_of({"first cell": settings[0]}),
            "seeds": "the n-th cell, numbered from 0, has the seed of the first and n",
            "collapsed": f"a mode has less than {MISSED:g} of its own weight",
            "device": describe(where),
            "method": f"{training.seeds} seeds: {method_of(training.architecture, training.optimiser, _in_words(steps))}",
        },
    )


def _records(steps: int) -> int:
    return max(1, steps // STRIDE)


def _in_words(steps: list[int]) -> str:
    return f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"


def _cell(problem: Problem, run: dict[str, Any], tell: Callable[[str], None] | None) -> np.ndarray:
    """(seeds, LAST and the mode weights) of the last record; NaN where a loss was not finite."""
    try:
        last = train_flow(problem, **run, records=_records(run["steps"])).data.isel(step=-1)
    except DivergenceError as error:
        if tell is not None:
            tell(f"T0 = {problem.schedule.T0:g}, t0 = {problem.schedule.t0:g}: {error}")
        return np.full((run["seeds"], len(LAST) + len(problem.target.weights)), np.nan)
    return np.column_stack([*(last[name].to_numpy() for name in LAST), last["mode_weights"].to_numpy()])
