"""The stored maps of P(collapse) for components that learn their shape, as numbers and a figure for the article."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi.collapse.collapse_figures import phase_panel
from annealvi.paper.fragments import number
from annealvi.show import style

if TYPE_CHECKING:
    import xarray as xr

KINDS = {"fixed": "fixed", "scales": "learned scales", "covariances": "learned variances along the axis"}
"""The maps by the names of their files, with the titles of their panels."""
FIGURE = "shapes"
STANDARD_ERRORS = 2.0
"""How many standard errors apart two probabilities count as different."""


def shape_datasets(folder: Path | None) -> dict[str, xr.Dataset]:
    """The maps by kind; empty unless all files exist."""
    import xarray as xr

    paths = {kind: folder / f"{kind}.nc" for kind in KINDS} if folder is not None else {}
    if not paths or not all(path.is_file() for path in paths.values()):
        return {}
    return {kind: xr.load_dataset(path) for kind, path in paths.items()}


def shape_numbers(data: dict[str, xr.Dataset]) -> dict[str, str]:
    """The article's numbers: P under the hottest and slowest schedule, and how many schedules each kind changes."""
    if not data:
        return {}
    n = int(json.loads(data["fixed"].attrs["request"])["n"])
    p = {kind: values["p_ode"].transpose("schedule.t0", "schedule.T0").to_numpy() for kind, values in data.items()}
    error = {kind: np.sqrt(np.maximum(x * (1 - x), 1 / n) / n) for kind, x in p.items()}

    def apart(kind: str) -> np.ndarray:
        """The difference to fixed shapes in its standard errors."""
        return (p[kind] - p["fixed"]) / np.hypot(error[kind], error["fixed"])

    return {
        **{f"shape-{kind}": number(float(x[-1, -1]), 2) for kind, x in p.items()},
        "shape-start": number(float(data["fixed"]["schedule.T0"][-1]), 3),
        "shape-scale": number(float(data["fixed"]["schedule.t0"][-1]), 4),
        "shape-n": str(n),
        "shape-schedules": str(p["fixed"].size),
        "shape-worse": str(int((apart("covariances") > STANDARD_ERRORS).sum())),
        "shape-less-bad": str(int((apart("covariances") < -STANDARD_ERRORS).sum())),
        "shape-better": str(int((apart("scales") < -STANDARD_ERRORS).sum())),
        "shape-less-good": str(int((apart("scales") > STANDARD_ERRORS).sum())),
    }


def draw_shapes(data: dict[str, xr.Dataset], folder: Path, suffix: str) -> list[Path]:
    """Draw the three maps side by side; no file where there are no maps."""
    if not data:
        return []
    with style.figure(style.TWO_COLUMNS, 2.5, columns=len(KINDS), sharex=True, sharey=True) as (figure, panels):
        for panel, (kind, title) in zip(panels, KINDS.items(), strict=True):
            mesh = phase_panel(panel, data[kind])
            ends = [data[kind][key].to_numpy()[[0, -1]] for key in ("schedule.T0", "schedule.t0")]
            panel.set(title=title, xlim=ends[0], ylim=ends[1])
        for panel in panels[1:]:
            panel.set_ylabel("")
        figure.colorbar(mesh, ax=list(panels), label=style.LABELS["p"])
    return [style.save(figure, folder / f"{FIGURE}{suffix}")]
