"""Flows under many schedules at equal numbers of steps: a map over two numbers of the problem, or kinds of schedule side by side."""

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
from annealvi.flows.run import MISSED, cost_of, describe, device_of, method_of, settings_of, train_flow
from annealvi.flows.tempering import default_steps
from annealvi.flows.training import Architecture, Optimiser
from annealvi.rows import Rows
from derive.problem import BadInput, Problem, ScheduleSpec
from derive.schedules import make_rule, make_schedule
from kernels.particles import DivergenceError

KINDS = (*FORMULAS, "adaann")
ADAANN_INTERVAL = 10.0
"""Steps between two adjustments of β, where kinds are compared."""
MOST_CELLS = 10_000

LAST = ("projected_variance", "entropic_mode_coverage", "reverse_ess", "forward_ess", "reverse_kl", "forward_kl", "beta")
"""What a sweep keeps of each flow's last record, besides its mode weights."""


@dataclass(frozen=True)
class Training:
    """How each flow is trained; the schedule is the cell's. steps: None for as many as the slowest schedule needs, and 2000 more."""

    steps: int | None = None
    seeds: int = 4
    architecture: Architecture = field(default_factory=Architecture)
    optimiser: Optimiser = field(default_factory=Optimiser)
    time_per_step: float = 1.0
    samples: int = 2048
    seed: int = 0
    device: str = "auto"


def flow_map(problem: Problem, x: Axis, y: Axis, training: Training | None = None, **options: Any) -> xr.Dataset:
    """Flows over two numbers of the problem, as a dataset over (y, x, seed): p, stderr, and what LAST names.

    The time scale t0 counts steps over `training.time_per_step`. All cells have the same number of steps, and flow n of every cell the same
    start and direction of the target. options: rows, a folder that keeps finished cells, from which an interrupted map goes on to the same
    result; max_cost, progress, tell as in `train_flow`. A cell in which a flow's loss is not finite is NaN. Raises BadInput.
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
    problems = [KEYS[y.key](KEYS[x.key](problem, float(u)), float(v)) for v in y.values for u in x.values]
    data = _train_all(problems, training or Training(), options)
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

    Every schedule reaches T = 1.05 after `anneal` steps (`hold` jumps there); so does AdaAnn where q follows p^β, which is then nearly
    Gaussian: its τ is √(d/2) log T0 × interval / anneal. The dataset's coordinates kind, T0 and t0 say which is which; the kind "none" is
    β = 1 throughout. training, options: as of `flow_map`; steps None are 2000 after the annealing.
    """
    if stray := [kind for kind in kinds if kind not in KINDS]:
        raise BadInput("--kinds", f"{stray[0][:40]!r} has no T0 to choose", f"choose from {', '.join(KINDS)}", "")
    if not min(temperatures) > 1 + ANNEALED:
        raise BadInput("--x", f"T0 = {min(temperatures):g} leaves nothing to anneal", f"begin above T0 = {1 + ANNEALED:g}", "")
    training = training or Training()
    training = training if training.steps is not None else replace(training, steps=anneal + 2000)
    scale = anneal * training.time_per_step
    specs = [ScheduleSpec("constant", 1.0, 1.0)]
    specs += [spec_of_kind(kind, T0, scale, problem.space.dimension, training.time_per_step) for kind in kinds for T0 in temperatures]
    data = _train_all([replace(problem, schedule=spec) for spec in specs], training, options)
    places = {
        "kind": ["none", *(spec.kind for spec in specs[1:])],
        "T0": [spec.T0 for spec in specs],
        "t0": [spec.t0 for spec in specs],
    }
    return data.rename(cell="schedule").assign_coords({name: ("schedule", values) for name, values in places.items()})


def spec_of_kind(kind: str, T0: float, duration: float, dimension: int, time_per_step: float = 1.0) -> ScheduleSpec:
    """The schedule of a kind that takes `duration` from T0 to T = 1.05."""
    if kind == "adaann":
        interval = ADAANN_INTERVAL * time_per_step
        return ScheduleSpec(kind, T0, interval, tau=math.sqrt(dimension / 2) * math.log(T0) * interval / duration)
    return schedule_within(kind, T0, duration)


def _train_all(problems: list[Problem], training: Training, options: dict[str, Any]) -> xr.Dataset:
    """All cells, one after the other, each with all its seeds side by side: over (cell, seed)."""
    if len(problems) > MOST_CELLS:
        raise BadInput("--x", f"{len(problems)} cells", f"ask for at most {MOST_CELLS}", "")
    rows: Path | None = options.get("rows")
    progress: Callable[[int, int], None] | None = options.get("progress")
    tell: Callable[[str], None] | None = options.get("tell")
    steps = training.steps or max(default_steps(p.schedule, make_rule(p.schedule), training.time_per_step) for p in problems)
    where = device_of(training.device)
    costs = [cost_of(p.space.dimension, training.architecture, training.optimiser, training.seeds, steps, where.platform) for p in problems]
    total = Cost(sum(c.seconds for c in costs), f"{len(problems)} cells of {training.seeds} flows of {steps} steps on {where.platform}")
    require_affordable(total, options.get("max_cost"), "take fewer cells, --steps or --seeds, or raise --max-cost", tell)
    run = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)} | {"steps": steps}
    settings = [settings_of(p, where, **run) for p in problems]
    store = Rows(rows, fingerprint_of({"cells": settings}))
    found = []
    for n, problem in enumerate(problems):
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
    covered = weights >= MISSED * wanted[:, None]
    outcomes = [Outcomes(cell) for cell in covered]
    failed = np.isnan(values).any((1, 2))
    return xr.Dataset(
        {
            "p": ("cell", np.where(failed, np.nan, [o.p for o in outcomes])),
            "stderr": ("cell", np.where(failed, np.nan, [o.stderr for o in outcomes])),
            **{name: (("cell", "seed"), values[..., k]) for k, name in enumerate(LAST)},
            "mode_weights": (("cell", "seed", "mode"), weights),
            "collapsed": (("cell", "seed"), np.array([o.collapsed for o in outcomes])),
            "target_weights": (("cell", "mode"), wanted),
            "weight_error": (("cell", "seed"), 0.5 * np.abs(weights - wanted[:, None]).sum(2)),
        },
        attrs={
            "settings": fingerprint_of(settings[0]),
            "device": describe(where),
            "method": f"{training.seeds} seeds: {method_of(training.architecture, training.optimiser, steps)}",
            "steps": steps,
        },
    )


def _cell(problem: Problem, run: dict[str, Any], tell: Callable[[str], None] | None) -> np.ndarray:
    """(seeds, LAST and the mode weights) of the last record; NaN where a loss was not finite."""
    try:
        last = train_flow(problem, **run, records=1).data.isel(step=-1)
    except DivergenceError as error:
        if tell is not None:
            tell(f"T0 = {problem.schedule.T0:g}, t0 = {problem.schedule.t0:g}: {error}")
        return np.full((run["seeds"], len(LAST) + len(problem.target.weights)), np.nan)
    return np.column_stack([*(last[name].to_numpy() for name in LAST), last["mode_weights"].to_numpy()])
