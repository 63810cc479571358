"""The article's figures, each as PDF for print and as PNG for the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi.collapse.collapse_figures import draw_phase
from annealvi.fixed_points.bifurcation_diagram import bifurcation_figure
from annealvi.paper.article_results import STARTS, Results
from annealvi.paper.learned_shapes import draw_shapes
from annealvi.paper.stored_flows import draw_flows
from annealvi.show import style
from annealvi.show.path_figures import draw_comparisons

if TYPE_CHECKING:
    import xarray as xr


def draw_all(
    results: Results, flows: dict[str, xr.Dataset], shapes: dict[str, xr.Dataset], folder: Path
) -> tuple[Path, ...]:
    """Draw all figures and return their files.

    flows, shapes: from `flow_datasets` and `shape_datasets`; empty for no figures of these.
    """
    drawn: list[Path] = []
    for suffix in (".pdf", ".png"):
        states = results.session.derivation.system.states
        drawn.append(draw_comparisons(results.verification.comparisons, states, folder / f"paths{suffix}"))
        drawn.append(draw_phase(results.phase, folder / f"phase{suffix}", results.ode))
        drawn.append(
            _draw_temperature_and_rate(results.trade_off, results.together, folder / f"temperature-and-rate{suffix}")
        )
        bifurcation_figure(results.branches, folder / f"bifurcations{suffix}")
        drawn.append(folder / f"bifurcations{suffix}")
        drawn.extend(draw_flows(flows, folder, suffix))
        drawn.extend(draw_shapes(shapes, folder, suffix))
    return tuple(drawn)


def _draw_temperature_and_rate(
    curves: Sequence[tuple[float, np.ndarray]], together: tuple[np.ndarray, np.ndarray, np.ndarray], path: Path
) -> Path:
    """Left: P against T0 at each t0, with the best T0 marked. Right: P where t0 = 3 T0, over the curves of the left."""
    with style.figure(style.TWO_COLUMNS, 2.6, columns=2, sharex=True, sharey=True) as (figure, (left, right)):
        for n, (t0, p) in enumerate(curves):
            best = int(p.argmin())
            left.semilogx(STARTS, p, **style.line(n), label=f"${t0:g}$")
            left.plot(STARTS[best], p[best], **style.points(n))
            right.semilogx(STARTS, p, color=style.FAINT, lw=0.8)
        raised, scales, low = together
        right.semilogx(raised, low, color="black", lw=1.8)
        for at in (10, 100, 1000):
            place = at, float(np.interp(np.log(at), np.log(raised), low))
            right.plot(*place, "o", color="black")
            right.annotate(f"$t_0 = {at * scales[0] / raised[0]:g}$", place, (6, 4), textcoords="offset points")
        left.set(xlabel=style.LABELS["schedule.T0"], ylabel=style.LABELS["p"], ylim=(0, None))
        left.legend(title="$t_0$", ncols=2, loc="lower left")
        right.set(xlabel=style.LABELS["schedule.T0"])
    return style.save(figure, path)
