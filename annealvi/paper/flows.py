"""The stored results of the flows as a table, numbers and figures for the article; nothing where they are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.flows.sweep_figures import draw_kinds, draw_map
from annealvi.paper.fragments import booktabs, number, rough, text

if TYPE_CHECKING:
    import xarray as xr

MAP, KINDS = "map-128", "kinds-128"


def flow_datasets(folder: Path | None) -> dict[str, xr.Dataset]:
    """The map and the comparison of kinds, each with the theory's beside it; empty unless all four files are there."""
    import xarray as xr

    paths = {name: folder / f"{name}.nc" for name in (MAP, f"{MAP}-theory", KINDS, f"{KINDS}-theory")} if folder is not None else {}
    if not paths or not all(path.is_file() for path in paths.values()):
        return {}
    return {name: xr.load_dataset(path, engine="scipy") for name, path in paths.items()}


def flow_numbers(data: dict[str, xr.Dataset]) -> dict[str, str]:
    if not data:
        return {}
    kinds = data[KINDS]
    cold = kinds.isel(schedule=int(np.flatnonzero(kinds["kind"].to_numpy() == "none")[0]))
    kept = kinds["mode_weights"].to_numpy()[..., 0][~kinds["collapsed"].to_numpy()]
    theory = data[f"{KINDS}-theory"]
    hold = theory["p"].sel(kind="hold")
    return {
        "flow-seeds": str(kinds.sizes["seed"]),
        "flow-steps": str(int(kinds.attrs["steps"])),
        "flow-map-steps": str(int(data[MAP].attrs["steps"])),
        "flow-method": text(str(kinds.attrs["method"]).replace("×", "x")),
        "flow-device": text(str(kinds.attrs["device"])),
        "flow-cold": _p(cold),
        "flow-cold-weight": number(float(cold["mode_weights"].to_numpy()[:, 0].mean())),
        "flow-cold-kl": number(float(cold["reverse_kl"].mean())),
        "flow-kept": number(float(kept.mean()), 2),
        "flow-kept-low": number(float(kept.min()), 2),
        "flow-kept-high": number(float(kept.max()), 2),
        "flow-theory-hold": rough(float(hold.min())),
        "flow-theory-hold-start": number(float(theory["T0"].to_numpy()[hold.to_numpy().argmin()])),
    }


def _p(data: Any) -> str:
    return rf"{number(float(data['p']), 2)} $\pm$ {rough(float(data['stderr']))}"


def flow_tables(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """P(collapse) by kind and initial temperature."""
    if not data:
        return {}
    kinds = data[KINDS]
    starts = sorted({float(T0) for kind, T0 in zip(kinds["kind"].to_numpy(), kinds["T0"].to_numpy(), strict=True) if kind != "none"})
    rows = []
    for kind in dict.fromkeys(kinds["kind"].to_numpy()):
        here = kinds["kind"].to_numpy() == kind
        found = dict(zip(kinds["T0"].to_numpy()[here], np.flatnonzero(here), strict=True))
        if kind == "none":
            rows.append(("none", _p(kinds.isel(schedule=int(found[1.0]))), *[""] * (len(starts) - 1)))
        else:
            rows.append((text(kind), *(_p(kinds.isel(schedule=int(found[T0]))) for T0 in starts)))
    return {"flows": booktabs("l" + "r" * len(starts), ("kind", *(f"$T_0 = {T0:g}$" for T0 in starts)), rows)}


def draw_flows(data: dict[str, xr.Dataset], folder: Path, suffix: str) -> list[Path]:
    """The map and the comparison, the theory beside them."""
    if not data:
        return []
    title = f"RealNVP flows, d = 128, {data[MAP].sizes['seed']} seeds"
    return [
        draw_map(data[MAP], data[f"{MAP}-theory"], title, folder / f"flows-map{suffix}"),
        draw_kinds(data[KINDS], data[f"{KINDS}-theory"], title, folder / f"flows-kinds{suffix}"),
    ]
