"""The figure of a training run: diagnostics over the steps, and the last samples along the modes and in the plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from annealvi.realnvp.recovery import weight_error
from annealvi.show import style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {
    "mode_weights": "weight of the first mode",
    "projected_variance": "projected variance",
    "reverse_ess": "reverse ESS",
    "forward_ess": "forward ESS",
    "reverse_kl": r"$\mathrm{KL}(q\,\|\,p^\star)$",
    "beta": style.LABELS["beta"],
}
MOST_FLOWS = 50
ANNEALED_LINE: dict[str, Any] = {"color": style.BLACK, "linestyle": ":", "linewidth": 0.9}


def draw_flow(data: xr.Dataset, target_scales: np.ndarray, path: Path) -> Path:
    """Write the figure of a run."""
    return style.save(flow_figure(data, target_scales), path)


def flow_figure(data: xr.Dataset, target_scales: np.ndarray) -> Figure:
    """Draw the diagnostics of a training run over its steps, and the flows' last samples.

    Each flow is one thin line; flows that miss a mode have another colour. Dashed lines are the target's values, a
    dotted line is the first step at T <= 1.05. A target of up to two modes gets the weight of the first mode and a
    histogram along the modes; one of more modes the error of all weights, and each weight in the end.

    Parameters
    ----------
    data : xarray.Dataset
        `FlowRun.data` of `annealvi.train_flow`.
    target_scales : ndarray
        Standard deviations of the target's modes, (K,).

    Returns
    -------
    matplotlib.figure.Figure
        Nine panels, with 50 flows at most.

    Examples
    --------
    >>> import numpy as np
    >>> figure = flow_figure(run.data, np.array(problem.target.scales))  # doctest: +SKIP
    >>> annealvi.style.save(figure, "flow.png")  # doctest: +SKIP
    """
    weights, modes = data["target_weights"].to_numpy(), data["projected_modes"].to_numpy()[0]  # the same for all flows
    mean = weights @ modes[:, 0]
    two = len(weights) <= 2
    exact = {
        "mode_weights": weights[0] if two else 0.0,
        "projected_variance": weights @ (target_scales**2 + (modes[:, 0] - mean) ** 2),
        "reverse_ess": 1.0,
        "forward_ess": 1.0,
        "reverse_kl": 0.0,
    }
    colours = [style.KEPT if all(covered) else style.LOST for covered in data["covered"].to_numpy()[:MOST_FLOWS]]
    with style.figure(style.TWO_COLUMNS, 5.6, 3, 3) as (figure, grid):
        panels = grid.ravel()
        for panel, (name, title) in zip(panels, CURVES.items(), strict=False):
            values = data[name].to_numpy()[:MOST_FLOWS]
            if name == "mode_weights":
                values = values[..., 0] if two else weight_error(values, weights)
            for line, colour in zip(values, colours, strict=True):
                panel.plot(data["step"], line, color=colour, lw=0.9, alpha=0.8)
            if name in exact:
                panel.axhline(exact[name], **style.REFERENCE)
            if name in ("mode_weights", "reverse_ess", "forward_ess", "beta"):
                panel.set_ylim(-0.04, 1.04)
            if name == "projected_variance":
                panel.set_yscale("log")
            if name == "reverse_kl":
                panel.set_yscale("symlog", linthresh=0.1)
                panel.set_ylim(bottom=-0.1)
            _mark_annealed(panel, data)
            panel.set_title(title if two or name != "mode_weights" else "weight error")
            panel.set_xlabel("step")
        samples = data["projection"].to_numpy()[:MOST_FLOWS]
        if two:
            _histogram(panels[6], samples[:, :, 0], colours, weights, modes[:, 0], target_scales)
        else:
            _final_weights(panels[6], data["mode_weights"].isel(step=-1).to_numpy()[:MOST_FLOWS], colours, weights)
        _plane(panels[7], samples, colours, modes)
        panels[8].axis("off")
        for colour, label in ((style.KEPT, "covers all modes"), (style.LOST, "misses a mode")):
            count = int((data["covered"].all("mode") == (colour == style.KEPT)).sum())
            panels[8].plot([], [], color=colour, label=f"{label}: {count} flows")
        panels[8].plot([], [], **style.REFERENCE, label="target")
        panels[8].plot([], [], **ANNEALED_LINE, label="first step at $T \\leq 1.05$")
        panels[8].legend(loc="center left")
    return figure


def _mark_annealed(panel: Axes, data: xr.Dataset) -> None:
    """Mark the median flow's first step at T <= 1.05, if any flow reached it."""
    annealed = data["annealed_at"].isel(step=-1).to_numpy()
    if np.isfinite(annealed).any():
        panel.axvline(float(np.nanmedian(annealed)), **ANNEALED_LINE)


def _final_weights(panel: Axes, mode_weights: np.ndarray, colours: list[str], wanted: np.ndarray) -> None:
    """Draw the target's weights as bars, and each flow's weights as dots."""
    modes = np.arange(1, len(wanted) + 1)
    panel.bar(modes, wanted, width=0.8, color="0.85")
    for own, colour in zip(mode_weights, colours, strict=True):
        panel.plot(modes, own, "o", color=colour, ms=max(1.5, 4 - len(modes) / 16), alpha=0.6, mew=0)
    panel.set_ylim(bottom=-0.02 * mode_weights.max())
    panel.set_title("weights in the end; bars: target")
    panel.set_xlabel("mode")


def _histogram(
    panel: Axes,
    along: np.ndarray,
    colours: list[str],
    weights: np.ndarray,
    centres: np.ndarray,
    scales: np.ndarray,
) -> None:
    """Draw the density of each flow's samples along the first axis, and the target's."""
    reach = np.abs(centres).max() + 4 * scales.max()
    edges = np.linspace(-reach, reach, 61)
    for samples, colour in zip(along, colours, strict=True):
        panel.stairs(np.histogram(samples, edges, density=True)[0], edges, color=colour, lw=0.7, alpha=0.6)
    x = np.linspace(-reach, reach, 400)
    panel.plot(x, (weights * norm.pdf(x[:, None], centres, scales)).sum(1), **style.REFERENCE)
    panel.set_title("samples along the modes")
    panel.set_xlabel("first axis")


def _plane(panel: Axes, samples: np.ndarray, colours: list[str], modes: np.ndarray) -> None:
    """Draw some samples of each flow in the plane of both axes, and the target's modes as crosses."""
    few = max(20, 1500 // len(samples))
    for points, colour in zip(samples, colours, strict=True):
        panel.plot(*points[:few].T, ".", color=colour, ms=1.5, alpha=0.5)
    size = 7 if len(modes) <= 8 else 4
    panel.plot(*modes.T, "x", color=style.BLACK, ms=size, mew=size / 4.5)
    panel.set_aspect("equal", adjustable="datalim")
    panel.set_title("samples in the plane")
    panel.set_xlabel("first axis")
    panel.set_ylabel("second axis")
