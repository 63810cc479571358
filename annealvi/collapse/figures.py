"""Figures of the probability of collapse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from annealvi.collapse.phase import RESULTS
from annealvi.figures import COLOURS, STYLE, save_figure

if TYPE_CHECKING:
    import xarray as xr

NAMES = {
    "schedule.T0": "initial temperature $T_0$",
    "schedule.t0": "time scale $t_0$",
    "space.dimension": "dimension $d$",
    "R": "separation $R$",
    "w_star": "weight of the first mode $w^\\star$",
    "w_1": "weight of the first component $w_1$",
}
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def draw_phase(data: xr.Dataset, path: Path, ode: xr.Dataset | None = None, particles: xr.Dataset | None = None) -> Path:
    """The map as colours with labelled contours; dashed, the contours of an ODE ensemble's own coarse map; discs, particle runs."""
    (result,) = data.data_vars
    values = data[result]
    y, x = values.dims
    probability = str(result).startswith("p")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        axes = figure.subplots()
        limits = Normalize(0, 1) if probability else None
        mesh = axes.pcolormesh(data[x], data[y], values, cmap="viridis", norm=limits, shading="nearest", rasterized=True)
        figure.colorbar(mesh, label=RESULTS[str(result)])
        if probability:
            lines = axes.contour(data[x], data[y], values, levels=LEVELS, colors="white", linewidths=0.9)
            axes.clabel(lines, fontsize=7, fmt="%g")
        if ode is not None:
            axes.contour(ode[x], ode[y], ode["p_ode"], levels=LEVELS, colors=COLOURS[4], linewidths=1.1, linestyles="dashed")
            axes.plot([], [], "--", color=COLOURS[4], lw=1.1, label="ODE ensemble")
        if particles is not None:
            grid = np.meshgrid(particles[x], particles[y])
            shown = particles["p_particles"]
            axes.scatter(*grid, c=shown, cmap="viridis", norm=limits, s=60, edgecolors="white", linewidths=1.2, label="particles")
        for key, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
            steps = data[key].values
            if len(steps) > 2 and steps[0] > 0 and np.isclose(steps[1] / steps[0], steps[2] / steps[1]):
                scale("log")
        axes.set_xlabel(NAMES[str(x)])
        axes.set_ylabel(NAMES[str(y)])
        if ode is not None or particles is not None:
            axes.legend(loc="upper left", bbox_to_anchor=(0, 1.1), ncols=2, borderaxespad=0)
        return save_figure(figure, path)


def draw_trade_off(
    curves: list[tuple[float, np.ndarray, np.ndarray]], together: tuple[np.ndarray, np.ndarray, np.ndarray], path: Path
) -> Path:
    """The study's trade-off. curves: (t0, T0 (n,), p (n,)). together: T0, t0 and p where both are raised.

    Left: at fixed t0, P falls and rises again with T0. Right: raising both together keeps it low.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for (t0, T0, p), colour in zip(curves, COLOURS, strict=False):
            left.semilogx(T0, p, color=colour, label=f"$t_0 = {t0:g}$")
            best = int(np.argmin(p))
            left.plot(T0[best], p[best], "o", color=colour, ms=4)
        left.set_xlabel(NAMES["schedule.T0"])
        left.set_ylabel("P(collapse)")
        left.set_ylim(0, 1)
        left.legend(title="dot: the best $T_0$", alignment="left")
        left.set_title("a fixed time scale")
        raised, scales, low = together
        right.semilogx(raised, low, color="black")
        right.set_xlabel(NAMES["schedule.T0"])
        right.set_title(f"$t_0$ raised with $T_0$, from {scales[0]:.3g} to {scales[-1]:.3g}")
        return save_figure(figure, path)
