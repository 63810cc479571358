"""The stored results of the flows as tables, numbers and figures for the article; nothing where they are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi import style
from annealvi.flows.figures import weights_figure
from annealvi.flows.sweep_figures import draw_kinds, draw_map
from annealvi.paper.fragments import booktabs, number, rough, text

if TYPE_CHECKING:
    import xarray as xr

MAPS = {"map-16-linear": "flows-map-linear", "map-128": "flows-map"}
KINDS = {"kinds-16": "flows-kinds-small", "kinds-128": "flows-kinds"}
WEIGHTS = "weights-128"
NAMES = (*MAPS, *(f"{name}-theory" for name in MAPS), *KINDS, *(f"{name}-theory" for name in KINDS), WEIGHTS)


def flow_datasets(folder: Path | None) -> dict[str, xr.Dataset]:
    """Maps and comparisons of kinds, each with the theory's beside it, and the long runs; empty unless all of them are there."""
    import xarray as xr

    paths = {name: folder / f"{name}.nc" for name in NAMES} if folder is not None else {}
    if not paths or not all(path.is_file() for path in paths.values()):
        return {}
    return {name: xr.load_dataset(path, engine="scipy") for name, path in paths.items()}


def flow_numbers(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """By name; those of the comparison in 128 dimensions are `flow-`, in 16 dimensions `flow-small-`."""
    if not data:
        return {}
    large = data["kinds-128"]
    cold = large.isel(schedule=_untempered(large)[0])
    kept = large.where(large["collapsed"] == 0)
    long = data[WEIGHTS]
    return {
        **_numbers_of_kinds("flow", large, data["kinds-128-theory"]),
        **_numbers_of_kinds("flow-small", data["kinds-16"], data["kinds-16-theory"]),
        "flow-map-seeds": str(data["map-128"].sizes["seed"]),
        "flow-map-after": str(int((data["map-128"]["steps"] - data["map-128"]["annealed_at"].max("seed")).min() // 100 * 100)),
        "flow-method": text(str(large.attrs["method"]).replace("×", "x")),
        "flow-device": text(str(large.attrs["device"])),
        "flow-cold-weight": number(float(cold["mode_weights"].isel(mode=0).mean()), 3),
        "flow-cold-kl": number(float(cold["reverse_kl"].mean()), 2),
        "flow-kept-weight": number(float(kept["mode_weights"].isel(mode=0).mean()), 2),
        "flow-kept-kl": number(float(kept["reverse_kl"].median()), 2),
        "flow-long": ", ".join(_final(long.sel(anneal=a)["mode_weights"].isel(mode=0)) for a in long["anneal"]),
        "flow-long-kl": ", ".join(_final(long.sel(anneal=a)["reverse_kl"]) for a in long["anneal"]),
        "flow-long-lengths": ", ".join(str(int(a)) for a in long["anneal"]),
        "flow-long-after": str(int(long["step"].max())),
        "flow-long-seeds": str(long.sizes["seed"]),
    }


def _numbers_of_kinds(prefix: str, flows: xr.Dataset, theory: xr.Dataset) -> dict[str, str]:
    whole, short = (flows.isel(schedule=n) for n in _untempered(flows))
    kinds = flows["kind"].to_numpy()
    gradual = flows.isel(schedule=np.flatnonzero(np.isin(kinds, ["geometric", "exponential"])))
    hold = theory["p"].sel(kind="hold")
    return {
        f"{prefix}-seeds": str(flows.sizes["seed"]),
        f"{prefix}-steps": str(int(flows["steps"].max())),
        f"{prefix}-cold": _count(whole),
        f"{prefix}-cold-short": _count(short),
        f"{prefix}-cold-short-steps": str(int(short["steps"])),
        f"{prefix}-gradual": f"{int(gradual['collapsed'].sum())} of {gradual['collapsed'].size}",
        f"{prefix}-theory-hold": rough(float(hold.min())),
        f"{prefix}-theory-hold-start": number(float(theory["T0"].to_numpy()[hold.to_numpy().argmin()])),
    }


def _untempered(flows: xr.Dataset) -> np.ndarray:
    """Where the two runs without annealing are, the long one first."""
    return np.flatnonzero(flows["kind"].to_numpy() == "none")


def _count(cell: xr.Dataset) -> str:
    """Collapsed flows of all."""
    return f"{int(cell['collapsed'].sum())} of {cell.sizes['seed']}"


def _final(values: xr.DataArray) -> str:
    """The mean over the flows in the end, with its standard error."""
    last = values.isel(step=-1).to_numpy()
    return rf"{number(float(last.mean()), 2)} $\pm$ {rough(float(last.std(ddof=1) / np.sqrt(len(last))))}"


def flow_tables(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """Collapsed flows of all by kind and initial temperature, in each number of dimensions."""
    return {KINDS[name]: _table(data[name]) for name in KINDS} if data else {}


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
    """The maps and the comparisons with the theory beside them, and the long runs."""
    if not data:
        return []

    def title(name: str) -> str:
        return f"RealNVP flows, $d = {name.split('-')[1]}$, {data[name].sizes['seed']} seeds"

    return [
        *(draw_map(data[n], data[f"{n}-theory"], title(n), folder / f"{figure}{suffix}") for n, figure in MAPS.items()),
        *(draw_kinds(data[n], data[f"{n}-theory"], title(n), folder / f"{figure}{suffix}") for n, figure in KINDS.items()),
        style.save(weights_figure(data[WEIGHTS]), folder / f"flows-weights{suffix}"),
    ]
