"""The experiments with RealNVP flows: each is a command by name and writes its result files beside the other results.

    uv run --extra flows python tests/benchmarks/flows.py NAME ...

All experiments but the -full ones take about two hours on two cores; the -full ones are for a GPU. An interrupted
experiment goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import xarray as xr

from annealvi.annealing.betas import schedule_within
from annealvi.collapse.phase_maps import save
from annealvi.realnvp import side_by_side
from annealvi.realnvp.experiments import Kinds, Map, accompany
from annealvi.realnvp.schedule_sweep import Training
from annealvi.realnvp.training import Architecture, Optimiser
from annealvi.realnvp.training_run import describe, device_of, train_flow
from annealvi.show.output import write_file
from annealvi.sweeps.axis import Axis
from annealvi.sweeps.engines import cores
from annealvi.sweeps.running import Execution, run_sweep, sweeping
from derive.problem.built_in import BUILT_IN
from derive.problem.problem_file import load_problem
from derive.problem.specification import Problem, ScheduleSpec, Space

RESULTS = Path(__file__).parent / "results" / "flows"
PROBLEMS = Path(__file__).parent / "problems"
KINDS = ("hold", "exponential", "geometric", "linear", "adaann")
SMALL = Training(seeds=8, architecture=Architecture(6, 32), optimiser=Optimiser(128))
REDUCED = replace(SMALL, seeds=4)
FULL = Training(after=4000, seeds=16)
Progress = Callable[[int, int], None]


def hot(low: float, high: float, count: int) -> Axis:
    return Axis("schedule.T0", low, high, count, log=True)


def slow(low: float, high: float, count: int) -> Axis:
    return Axis("schedule.t0", low, high, count, log=True)


def study(dimension: int, kind: str = "exponential") -> Problem:
    return Problem(schedule=ScheduleSpec(kind), space=Space(dimension))


def kinds(dimension: int, starts: Axis, anneal: int, training: Training, compared: tuple[str, ...] = KINDS) -> Kinds:
    return Kinds(study(dimension), tuple(starts.values.tolist()), compared, anneal, training)


SWEEPS: dict[str, Map | Kinds] = {
    "map-16-linear": Map(study(16, "linear"), hot(1.5, 300, 7), slow(30, 3000, 5), SMALL),
    "map-16": Map(study(16), hot(1.5, 300, 7), slow(24, 250, 4), SMALL),
    "kinds-16": kinds(16, hot(2, 300, 6), 1500, SMALL),
    "map-128": Map(study(128), hot(2, 200, 5), slow(150, 600, 3), REDUCED),
    "kinds-128": kinds(128, hot(4, 256, 3), 4000, REDUCED, ("hold", "exponential", "geometric", "linear", "adaann")),
    "map-128-full": Map(study(128), hot(1.5, 1000, 8), slow(20, 1000, 8), FULL),
    "kinds-128-full": kinds(128, hot(2, 1000, 8), 8000, FULL),
}


def run_map(name: str, experiment: Map | Kinds, progress: Progress) -> None:
    path = RESULTS / f"{name}.nc"
    with sweeping(experiment.sweep, path, Execution(force=True), progress=progress, tell=print) as data:
        experiment.show(data)
        accompany(experiment, data, experiment.theory(), path)


TRIED = Architecture()
"""The command's default architecture.

It is larger than SMALL, so that a wrong result is not the fault of a small network.
"""
LOOKS = 500
"""The number of steps between two records of `weights-128`."""


@dataclass(frozen=True)
class Row:
    """One way to train in 128 dimensions.

    `cooling` is the number of steps until T = 1.05, or 0 without annealing; `steps` is the number of all steps.
    """

    kind: str
    T0: float
    cooling: int
    steps: int
    gradient: str = "path"
    decay: str = "cosine"

    @property
    def schedule(self) -> ScheduleSpec:
        return (
            schedule_within(self.kind, self.T0, float(self.cooling))
            if self.cooling
            else ScheduleSpec("constant", 1.0, 1.0)
        )


ROWS = (
    Row("geometric", 20.0, 6000, 20_000),
    Row("geometric", 20.0, 6000, 20_000, gradient="total"),
    Row("hold", 20.0, 4000, 12_000),
    Row("hold", 4.0, 4000, 12_000),
    Row("geometric", 20.0, 600, 12_000),
    Row("constant", 1.0, 0, 12_000),
    Row("geometric", 20.0, 6000, 20_000, decay="constant"),
    Row("geometric", 20.0, 6000, 20_000, gradient="total", decay="constant"),
)


def run_weights(name: str, parts: Path, progress: Progress) -> None:
    """Records the weights of the modes in 128 dimensions over the steps, for each of `ROWS`.

    The rows have both estimators of the gradient, and schedules from gradual to none.
    """
    found = []
    for n, row in enumerate(ROWS):
        run = train_flow(
            replace(study(128), schedule=row.schedule),
            steps=row.steps,
            seed=n,
            records=row.steps // LOOKS,
            samples=2048,
            seeds=4,
            architecture=TRIED,
            optimiser=Optimiser(gradient=row.gradient, decay=row.decay),
            checkpoint=parts / f"{n}.npz",
            progress=lambda done, total, n=n: progress(n, len(ROWS)) if done == 0 else None,
        )
        found.append(run.data.drop_vars("projection"))
    columns = {f.name: ("run", [getattr(row, f.name) for row in ROWS]) for f in fields(Row)}
    save(
        xr.concat(found, "run", join="outer", combine_attrs="drop_conflicts").assign_coords(columns),
        RESULTS / f"{name}.nc",
    )


DEFAULT_SEEDS = (0, 1)
"""The command's default seed, and another one."""


def run_default(name: str, parts: Path, progress: Progress) -> None:
    """Trains as `annealvi flow --set space.dimension=128` does, with its default seed and with another.

    The result has the seconds of the first run, and what both runs end with.
    """
    found, begun = [], time.perf_counter()
    for n in DEFAULT_SEEDS:
        run = train_flow(study(128), seed=n, checkpoint=parts / f"{n}.npz", progress=progress)
        found.append(
            run.data.drop_vars("projection").assign_attrs(
                seconds=round(time.perf_counter() - begun), cores=cores(), method=run.method
            )
        )
    data = xr.concat(found, "run", combine_attrs="override").assign_coords(run=list(DEFAULT_SEEDS))
    save(data, RESULTS / f"{name}.nc")


FAR = {
    "ring-8": (100.0, 6000, 4000, ("hold", "geometric", "adaann")),
    "fab-40": (1000.0, 6000, 2000, ("hold", "geometric")),
}
"""For two targets of many modes in the plane: T0, steps of cooling, steps at T = 1, and kinds of schedule."""


def run_far(name: str, parts: Path, progress: Progress) -> None:
    """Compares no annealing with the kinds of schedule in `FAR`, for a target of many modes in the plane."""
    T0, anneal, after, compared = FAR[name]
    problem = load_problem(str(PROBLEMS / f"{name}.toml"))
    training = Training(seeds=4, after=after, architecture=TRIED)
    experiment = Kinds(problem, (T0,), compared, anneal, training)
    data = run_sweep(experiment.sweep, RESULTS / f"{name}.nc", Execution(force=True), progress=progress, tell=print)
    experiment.show(data)


SLIPS_KINDS = ("hold", "geometric", "adaann")


def run_slips(name: str, parts: Path, progress: Progress) -> None:
    """Compares kinds of schedule for SLIPS from T0 = (R/σ)², where R is half the distance of the modes.

    At this temperature p^β begins to have two modes.
    """
    found, settings = [], []
    for dimension in (8, 16, 32, 64, 128):
        problem = BUILT_IN[f"slips-{dimension}"]
        T0 = dimension / problem.target.scales[0] ** 2
        experiment = Kinds(problem, (T0,), SLIPS_KINDS, 5000, replace(REDUCED, after=1000))
        data = run_sweep(experiment.sweep, parts / f"{dimension}.nc", Execution(force=True), progress=progress)
        experiment.show(data)
        found.append(data.reset_coords(["T0", "t0", "tau"]).assign_coords(dimension=dimension))
        settings.append(data.attrs["settings"])
    attributes = {**found[0].attrs, "settings": json.dumps(settings)}
    save(xr.concat(found, "dimension", combine_attrs="drop").assign_attrs(attributes), RESULTS / f"{name}.nc")


COSTS = (
    (16, Architecture(6, 32), Optimiser(128), 8),
    (128, Architecture(6, 32), Optimiser(128), 4),
    (128, Architecture(6, 64), Optimiser(128), 4),
    (128, Architecture(), Optimiser(), 4),
)
"""The dimension, the architecture, the optimiser, and the number of flows side by side."""


def run_cost(name: str, parts: Path, progress: Progress) -> None:
    """Measures the milliseconds of a step of one flow.

    The variants have either gradient, and all flows in one program instead of in groups. They run in turn, so that
    other work on the machine affects all alike, and the least time of each counts. The first run of each variant
    compiles and does not count.
    """
    found, steps = [], 300
    variants = {"path": ("path", nullcontext), "total": ("total", nullcontext), "together": ("path", in_one_program)}
    for n, (dimension, architecture, optimiser, flows) in enumerate(COSTS):
        seconds: dict[str, list[float]] = {variant: [] for variant in variants}
        for seed in range(4):
            for variant, (gradient, grouping) in variants.items():
                begun = time.perf_counter()
                settings = {
                    "steps": steps,
                    "seeds": flows,
                    "architecture": architecture,
                    "records": 1,
                    "samples": 2,
                    "seed": seed,
                }
                with grouping():
                    train_flow(study(dimension), **settings, optimiser=replace(optimiser, gradient=gradient))
                seconds[variant].append(time.perf_counter() - begun)
        ms = {variant: 1e3 * min(runs[1:]) / steps / flows for variant, runs in seconds.items()}
        found.append(
            {
                "dimension": dimension,
                "network": f"{architecture.layers} × 2 × {architecture.depth} × {architecture.width}",
                "batch": optimiser.batch,
                "flows": flows,
                **ms,
                "ratio": ms["path"] / ms["total"],
                "device": describe(device_of("auto")),
                "cores": cores(),
            }
        )
        progress(n + 1, len(COSTS))
    print(json.dumps(found, indent=2))
    write_file(RESULTS / f"{name}.json", json.dumps(found, indent=2, ensure_ascii=False).encode() + b"\n")


def in_one_program() -> AbstractContextManager[Any]:
    return patch.object(side_by_side, "number_of_groups", lambda flows, platform: 1)


OTHERS = {
    "weights-128": run_weights,
    "default-128": run_default,
    "ring-8": run_far,
    "fab-40": run_far,
    "slips": run_slips,
    "cost": run_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SWEEPS, *OTHERS]
    parser.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names:
        parts, begun = RESULTS / f"{name}.parts", time.perf_counter()

        def progress(done: int, total: int, name: str = name, begun: float = begun) -> None:
            print(f"{name}: {done} of {total}, {time.perf_counter() - begun:.0f} s", flush=True)

        if name in OTHERS:
            OTHERS[name](name, parts, progress)
            shutil.rmtree(parts, ignore_errors=True)
        else:
            run_map(name, SWEEPS[name], progress)
        print(json.dumps({"experiment": name, "seconds": round(time.perf_counter() - begun)}), flush=True)


if __name__ == "__main__":
    np.set_printoptions(linewidth=140)
    main()
