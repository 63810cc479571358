"""The experiments with RealNVP flows: every one a command by name, its result files beside the other results.

    uv run --extra flows python tests/benchmarks/flows.py map-16 kinds-16 map-128 kinds-128 slips    # two cores: about an hour and a half
    uv run --extra flows python tests/benchmarks/flows.py map-128-full kinds-128-full                # a GPU

An interrupted experiment goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from annealvi.collapse.phase import Axis, save
from annealvi.flows.report import print_kinds, print_map
from annealvi.flows.sweep import Training, compare_kinds, flow_map
from annealvi.flows.sweep_figures import draw_kinds, draw_map
from annealvi.flows.theory import theory_map, theory_of_kinds
from annealvi.flows.training import Architecture, Optimiser
from annealvi.rows import forget_rows
from derive.built_in import BUILT_IN
from derive.problem import Problem, Space

RESULTS = Path(__file__).parent / "results" / "flows"
KINDS = ("hold", "exponential", "geometric", "linear", "adaann")
SMALL = Training(seeds=8, architecture=Architecture(6, 32), optimiser=Optimiser(128))
REDUCED = replace(SMALL, steps=5500, seeds=4)
FULL = Training(steps=12_000, seeds=16)


@dataclass(frozen=True)
class Sweep:
    """A map where y is given, a comparison of KINDS, annealed for `anneal` steps, where it is not."""

    dimension: int
    training: Training
    x: Axis
    y: Axis | None = None
    anneal: int = 0


def hot(low: float, high: float, count: int) -> Axis:
    return Axis("schedule.T0", low, high, count, log=True)


def slow(low: float, high: float, count: int) -> Axis:
    return Axis("schedule.t0", low, high, count, log=True)


SWEEPS = {
    "map-16": Sweep(16, replace(SMALL, steps=2500), hot(1.5, 300, 7), slow(5, 250, 6)),
    "kinds-16": Sweep(16, replace(SMALL, steps=3500), hot(2, 300, 6), anneal=1500),
    "map-128": Sweep(128, REDUCED, hot(2, 200, 5), slow(150, 600, 3)),
    "kinds-128": Sweep(128, replace(REDUCED, steps=5000), hot(4, 256, 3), anneal=4000),
    "map-128-full": Sweep(128, FULL, hot(1.5, 1000, 8), slow(20, 1000, 8)),
    "kinds-128-full": Sweep(128, FULL, hot(2, 1000, 8), anneal=8000),
}


def run_sweep(name: str, sweep: Sweep, rows: Path, progress: Callable[[int, int], None]) -> None:
    problem = Problem(space=Space(sweep.dimension))
    title = f"RealNVP flows, $d = {sweep.dimension}$, {sweep.training.seeds} seeds"
    if sweep.y is not None:
        data = flow_map(problem, sweep.x, sweep.y, sweep.training, rows=rows, progress=progress)
        theory = theory_map(problem, sweep.x, sweep.y)
        draw_map(data, theory, title, RESULTS / f"{name}.png")
        print_map(data, name)
    else:
        data = compare_kinds(problem, sweep.x.values.tolist(), KINDS, sweep.anneal, sweep.training, rows=rows, progress=progress)
        theory = theory_of_kinds(problem, KINDS)
        draw_kinds(data, theory, title, RESULTS / f"{name}.png")
        print_kinds(data, name)
    save(theory, RESULTS / f"{name}-theory.nc")
    save(data, RESULTS / f"{name}.nc")


SLIPS_KINDS = ("hold", "geometric", "adaann")


def run_slips(name: str, rows: Path, progress: Callable[[int, int], None]) -> None:
    """From T0 = (R/σ)², half the modes' distance over their scale squared: there p^β begins to have two modes."""
    found = []
    for dimension in (8, 16, 32, 64, 128):
        problem = BUILT_IN[f"slips-{dimension}"]
        training = replace(REDUCED, steps=6000)
        T0 = dimension / problem.target.scales[0] ** 2
        data = compare_kinds(problem, [T0], SLIPS_KINDS, 5000, training, rows=rows / str(dimension), progress=progress)
        print_kinds(data, problem.name)
        found.append(data.drop_vars(["T0", "t0"]).assign_coords(dimension=dimension))
    save(xr.concat(found, "dimension", combine_attrs="drop_conflicts"), RESULTS / f"{name}.nc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*SWEEPS, "slips"], metavar="NAME", help=", ".join([*SWEEPS, "slips"]))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names:
        rows, begun = RESULTS / f"{name}.rows", time.perf_counter()

        def progress(done: int, total: int, name: str = name, begun: float = begun) -> None:
            print(f"{name}: {done} of {total}, {time.perf_counter() - begun:.0f} s", flush=True)

        if name == "slips":
            run_slips(name, rows, progress)
        else:
            run_sweep(name, SWEEPS[name], rows, progress)
        forget_rows(rows)
        print(json.dumps({"experiment": name, "seconds": round(time.perf_counter() - begun)}), flush=True)


if __name__ == "__main__":
    np.set_printoptions(linewidth=140)
    main()
