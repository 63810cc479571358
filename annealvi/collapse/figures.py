"""Figures of the probability of collapse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize

from annealvi import style
from annealvi.collapse.phase import RESULTS

if TYPE_CHECKING:
    import xarray as xr

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def draw_phase(data: xr.Dataset, path: Path, ode: xr.Dataset | None = None, particles: xr.Dataset | None = None) -> Path:
    """The map as colours with labelled contours; dashed, the contours of an ODE ensemble's own coarse map; discs, particle runs."""
    with style.figure(4.6, 3.6) as (figure, axes):
        mesh = phase_panel(axes, data, ode, particles)
        figure.colorbar(mesh, label=RESULTS[str(next(iter(data.data_vars)))])
        if ode is not None or particles is not None:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return style.save(figure, path)


def phase_panel(axes, data: xr.Dataset, ode: xr.Dataset | None = None, particles: xr.Dataset | None = None):
    """The same in a panel of a figure of one's own; returns what a colour bar is made from."""
    (result,) = data.data_vars
    values = data[result]
    y, x = values.dims
    probability = str(result).startswith("p")
    limits = Normalize(0, 1) if probability else None
    mesh = axes.pcolormesh(data[x], data[y], values, cmap=style.MAP, norm=limits, shading="nearest", rasterized=True)
    if probability:
        lines = axes.contour(data[x], data[y], values, levels=LEVELS, colors=style.OVERLAY, linewidths=0.9)
        axes.clabel(lines, fontsize=style.SMALL, fmt="%g")
    if ode is not None:
        axes.contour(ode[x], ode[y], ode["p_ode"], levels=LEVELS, colors=style.ORANGE, linewidths=1.1, linestyles="dashed")
        axes.plot([], [], "--", color=style.ORANGE, lw=1.1, label="ODE ensemble")
    if particles is not None:
        grid = np.meshgrid(particles[x], particles[y])
        shown = particles["p_particles"]
        axes.scatter(*grid, c=shown, cmap=style.MAP, norm=limits, s=45, edgecolors=style.OVERLAY, linewidths=1.2, label="particles")
    for key, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        steps = data[key].values
        if len(steps) > 2 and steps[0] > 0 and np.isclose(steps[1] / steps[0], steps[2] / steps[1]):
            scale("log")
    axes.set_xlabel(style.LABELS[str(x)])
    axes.set_ylabel(style.LABELS[str(y)])
    return mesh
