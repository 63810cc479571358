"""The flows' stored results as tables, numbers and figures for the article; nothing if they are not at hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi.collapse.outcome import CONFIDENCE
from annealvi.paper.fragments import booktabs, number, rough, text
from annealvi.realnvp.mode_coverage import MISSED
from annealvi.realnvp.sweep_figures import draw_kinds, draw_map, rows_in_words, training_figure
from annealvi.show import style

if TYPE_CHECKING:
    import xarray as xr

MAPS = {"map-16-linear": "flows-map-linear", "map-128": "flows-map"}
KINDS = {"kinds-16": "flows-kinds-small", "kinds-128": "flows-kinds"}
WEIGHTS = "weights-128"
FIGURES = (*MAPS.values(), *KINDS.values(), "flows-weights")
NAMES = (*MAPS, *(f"{name}-theory" for name in MAPS), *KINDS, *(f"{name}-theory" for name in KINDS), WEIGHTS)


def flow_datasets(folder: Path | None) -> dict[str, xr.Dataset]:
    """Maps, comparisons of kinds, the theory for each, and the runs by estimator; empty unless all files exist."""
    import xarray as xr

    paths = {name: folder / f"{name}.nc" for name in NAMES} if folder is not None else {}
    if not paths or not all(path.is_file() for path in paths.values()):
        return {}
    return {name: xr.load_dataset(path) for name, path in paths.items()}


def flow_numbers(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """The article's numbers by name: `flow-` for 128 dimensions, `flow-small-` for 16 dimensions."""
    if not data:
        return {}
    large, linear, runs = data["kinds-128"], data["map-16-linear"], data[WEIGHTS]
    path, total = (_last(_first_run(runs, gradient=kind)) for kind in ("path", "total"))
    constant = _last(_first_run(runs, decay="constant"))
    shares = linear["p"].transpose("schedule.t0", "schedule.T0").to_numpy()
    # The time scale at which starts can be too cold and too hot.
    clearest = int((np.minimum(shares[:, 0], shares[:, -1]) - shares.min(1)).argmax())
    scale = linear.isel({"schedule.t0": clearest})
    best = scale.isel({"schedule.T0": int(scale["p"].to_numpy().argmin())})
    ends = {"coldest": scale.isel({"schedule.T0": 0}), "best": best, "hottest": scale.isel({"schedule.T0": -1})}
    after = linear["steps"] - linear["annealed_at"].max("seed")
    return {
        **_numbers_of_kinds("flow", large, data["kinds-128-theory"]),
        **_numbers_of_kinds("flow-small", data["kinds-16"], data["kinds-16-theory"]),
        "flow-method": text(str(large.attrs["method"]).partition(": ")[2].replace("×", "x")),
        "flow-device": text(str(large.attrs["device"])),
        "flow-missed": number(MISSED, 1),
        "flow-confidence": f"{100 * CONFIDENCE:.0f}",
        "flow-small-after": str(int(after.min())),
        "flow-linear-scale": number(float(scale["schedule.t0"]), 3),
        **{f"flow-linear-{name}": _count(cell) for name, cell in ends.items()},
        **{f"flow-linear-{name}-start": number(float(cell["schedule.T0"]), 2) for name, cell in ends.items()},
        "flow-one-mode": number(-math.log(float(large["target_weights"][0, 0])), 3),
        "flow-geometric-weight": number(float(_weights_of(large, "geometric").median()), 2),
        "flow-wanted": number(float(large["target_weights"][0, 0]), 2),
        "flow-runs-seeds": str(runs.sizes["seed"]),
        "flow-path-weight": _over_flows(path["mode_weights"].isel(mode=0)),
        "flow-path-kl": _over_flows(path["reverse_kl"]),
        "flow-total-weight": _over_flows(total["mode_weights"].isel(mode=0)),
        "flow-total-kl": _over_flows(total["reverse_kl"]),
        "flow-constant-weight": _over_flows(constant["mode_weights"].isel(mode=0)),
        "flow-constant-kl": _over_flows(constant["reverse_kl"]),
    }


def _numbers_of_kinds(prefix: str, flows: xr.Dataset, theory: xr.Dataset) -> dict[str, str]:
    whole, short = (flows.isel(schedule=n) for n in _untempered(flows))
    problem = json.loads(flows.attrs["settings"])["first cell"]["problem"]
    barrier = problem["target"]["means"][0][0] ** 2 / 2
    kinds, T0 = flows["kind"].to_numpy(), flows["T0"].to_numpy()
    by_theory = theory["p"].sel(kind="hold")

    def lost(where: np.ndarray) -> str:
        cells = flows["collapsed"].isel(schedule=np.flatnonzero(where))
        return f"{int(cells.sum())} of {cells.size}"

    return {
        f"{prefix}-dimension": str(problem["space"]["dimension"]),
        f"{prefix}-seeds": str(flows.sizes["seed"]),
        f"{prefix}-steps": str(int(flows["steps"].max())),
        f"{prefix}-cold": _count(whole),
        f"{prefix}-cold-short": _count(short),
        f"{prefix}-cold-short-steps": str(int(short["steps"])),
        f"{prefix}-hold-hot": lost((kinds == "hold") & (4 * barrier <= T0)),
        f"{prefix}-hold-mild": lost((kinds == "hold") & (2 * barrier >= T0)),
        f"{prefix}-gradual": lost(np.isin(kinds, ["geometric", "exponential"])),
        f"{prefix}-theory-hold": rough(float(by_theory.min())),
        f"{prefix}-theory-hold-start": number(float(theory["T0"].to_numpy()[by_theory.to_numpy().argmin()])),
    }


def _untempered(flows: xr.Dataset) -> np.ndarray:
    """The places of the two runs without annealing, the longer one first."""
    return np.flatnonzero(flows["kind"].to_numpy() == "none")


def _count(cell: xr.Dataset) -> str:
    """The number of collapsed flows out of all."""
    return f"{int(cell['collapsed'].sum())} of {cell.sizes['seed']}"


def _weights_of(flows: xr.Dataset, kind: str) -> xr.DataArray:
    """The first mode's weight in all flows of a kind."""
    return flows["mode_weights"].isel(mode=0, schedule=np.flatnonzero(flows["kind"].to_numpy() == kind))


def _first_run(runs: xr.Dataset, **wanted: str) -> xr.Dataset:
    """The first run with the wanted settings."""
    return runs.isel(
        run=next(
            n for n in range(runs.sizes["run"]) if all(runs[name][n].item() == value for name, value in wanted.items())
        )
    )


def _last(run: xr.Dataset) -> xr.Dataset:
    """The record of a run's own last step; other runs in the dataset may be longer."""
    return run.sel(step=int(run["steps"]))


def _over_flows(values: xr.DataArray) -> str:
    """The median over the flows with the smallest and the largest value."""
    return rf"{float(values.median()):.3f} ({float(values.min()):.3f} to {float(values.max()):.3f})"


def flow_tables(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """The tables of collapsed flows by kind and initial temperature, and of the runs by estimator and schedule."""
    return (
        {KINDS[name]: _table(data[name]) for name in KINDS} | {FIGURES[-1]: _table_of_runs(data[WEIGHTS])}
        if data
        else {}
    )


def _table_of_runs(runs: xr.Dataset) -> str:
    """The table of runs, grouped by schedule; only the first run of a group shows the schedule's name."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for n, name in enumerate(rows_in_words(runs)):
        schedule, *how = name.split(" · ")
        run = _last(runs.isel(run=n))
        last = run["mode_weights"].isel(mode=0), run["reverse_kl"]
        shown = rf"\quad {', '.join(how)}" if how and schedule in rows else ", ".join((schedule, *how))
        numbers = (str(int(run["steps"])), *map(_over_flows, last), f"{float(run['reverse_ess'].median()):.2f}")
        rows.setdefault(schedule, []).append((shown, *numbers))
    together = [row for group in rows.values() for row in group]
    return booktabs("lrrrr", ("schedule, cooling", "steps", "weight", r"$\KL(q\,\|\,p^\star)$", "ESS"), together)


def _table(flows: xr.Dataset) -> str:
    kinds, T0 = flows["kind"].to_numpy(), flows["T0"].to_numpy()
    starts = sorted(set(T0[kinds != "none"].tolist()))
    rows = []
    for n in _untempered(flows):
        cell = flows.isel(schedule=n)
        rows.append((f"none, {int(cell['steps'])} steps", _count(cell), *[""] * (len(starts) - 1)))
    for kind in dict.fromkeys(kinds[kinds != "none"].tolist()):
        cells = (flows.isel(schedule=int(np.flatnonzero((kinds == kind) & (start == T0))[0])) for start in starts)
        rows.append((text(kind), *map(_count, cells)))
    return booktabs("l" + "r" * len(starts), ("kind", *(f"$T_0 = {start:.3g}$" for start in starts)), rows)


def draw_flows(data: dict[str, xr.Dataset], folder: Path, suffix: str) -> list[Path]:
    """Draw maps and comparisons with the theory beside them, and the runs by estimator."""
    if not data:
        return []

    def title(name: str) -> str:
        return f"RealNVP flows, $d = {name.split('-')[1]}$, {data[name].sizes['seed']} seeds"

    return [
        *(draw_map(data[n], data[f"{n}-theory"], title(n), folder / f"{figure}{suffix}") for n, figure in MAPS.items()),
        *(
            draw_kinds(data[n], data[f"{n}-theory"], title(n), folder / f"{figure}{suffix}")
            for n, figure in KINDS.items()
        ),
        style.save(training_figure(data[WEIGHTS]), folder / f"flows-weights{suffix}"),
    ]
