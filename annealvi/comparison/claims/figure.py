"""The figure of claims: each claim as a line, the package's result as points with errors, and the ratio below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.comparison.claims.fixed_points import FixedPointVerdict
from annealvi.comparison.claims.verdicts import ClaimVerdict
from annealvi.comparison.evidence.factors import CLOSE
from annealvi.show import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 3
"""Panels side by side."""
WIDE = 30.0
"""A panel over a larger ratio of its values than this is logarithmic."""
MOST_NAMED = 4
"""A panel of more states than this has no room for their names."""
SYMBOLS = {
    "beta_c": r"$\beta_c$",
    "T_c": "$T_c$",
    "F'(0)": "$F'(0)$",
    "G(-1)": "$G(-1)$",
    "Lambda_hot": r"$\Lambda_\mathrm{hot}$",
    "Lambda": r"$\Lambda$",
    "b_c": "$b_c$",
    "C": "$C$",
    "P": "P(collapse)",
}
AXES = {"T0": style.LABELS["schedule.T0"], "t0": style.LABELS["schedule.t0"], "d": style.LABELS["space.dimension"]}
AXES |= {name: style.LABELS[name] for name in ("R", "beta", "w_1")}
AXES |= {"w_star_1": r"weight of the first mode $w^\star_1$"}

Panel = tuple[ClaimVerdict | FixedPointVerdict, str]


def draw_claims(verdicts: Sequence[ClaimVerdict | FixedPointVerdict], path: Path) -> Path | None:
    """Draw one pair of panels for each claim and range, as PNG and PDF; None where no claim has a range."""
    panels: list[Panel] = [(v, name) for v in verdicts for name in v.ranges]
    if not panels:
        return None
    rows = -(-len(panels) // ACROSS)
    columns = -(-len(panels) // rows)
    heights = [2.0, 1.0] * rows
    with style.figure(2.4 * columns + 0.2, 2.9 * rows, 2 * rows, columns, squeeze=False, height_ratios=heights) as (
        figure,
        axes,
    ):
        for n, (verdict, name) in enumerate(panels):
            row, column = divmod(n, columns)
            _pair(axes[2 * row, column], axes[2 * row + 1, column], verdict, name)
        handles = {l: h for a in axes[::2].flat for h, l in zip(*a.get_legend_handles_labels(), strict=True)}
        of_all = {label: handles[label] for label in ("claim", "annealvi") if label in handles}
        figure.legend(of_all.values(), of_all.keys(), loc="outside upper center", ncols=2)
        for n in range(len(panels), rows * columns):
            row, column = divmod(n, columns)
            axes[2 * row, column].set_axis_off()
            axes[2 * row + 1, column].set_axis_off()
    return style.save(figure, path, pdf=True)


def _pair(upper: Axes, lower: Axes, verdict: ClaimVerdict | FixedPointVerdict, name: str) -> None:
    points = verdict.along(name)
    x = np.array([p.at[name] for p in points])
    if isinstance(verdict, FixedPointVerdict):
        _states(upper, lower, verdict, name, x)
    else:
        claim, ours, error = (np.array([getattr(p, key) for p in points]) for key in ("claim", "ours", "error"))
        upper.plot(x, claim, **style.line(1), label="claim")
        upper.errorbar(x, ours, error, **style.points(0), label="annealvi")
        upper.set_ylabel(SYMBOLS[verdict.name])
        _scale(upper.set_yscale, np.concatenate([claim, ours]))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, spread = claim / ours, np.abs(claim / ours**2) * error
        shown = np.isfinite(ratio)
        lower.errorbar(x[shown], ratio[shown], spread[shown], **style.points(1))
        _scale(lower.set_yscale, ratio[shown])
        lower.axhline(1, **style.REFERENCE)
        lower.set_ylabel("claim/ours")
    upper.set_title(f"{SYMBOLS.get(verdict.name, verdict.name)}: {verdict.verdict}")
    upper.margins(y=0.1)
    lower.margins(y=0.2)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel(AXES.get(name, name))
    if x.max() >= 4 * x.min():
        for axes in (upper, lower):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(style.ticker.LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(style.ticker.FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(style.ticker.NullFormatter())
    lower.set_xlim(upper.get_xlim())


def _states(upper: Axes, lower: Axes, verdict: FixedPointVerdict, name: str, x: np.ndarray) -> None:
    points = verdict.along(name)
    for n, state in enumerate(points[0].claim):
        upper.plot(x, [p.claim[state] for p in points], **style.line(n), label=state)
        upper.plot(x, [p.ours.get(state, np.nan) for p in points], **style.points(n))
    upper.set_ylabel("state")
    if len(points[0].claim) <= MOST_NAMED:
        upper.legend()
    away = np.array([p.away for p in points])
    lower.plot(x, np.maximum(away, 1e-16), **style.points(0))
    lower.set_yscale("log")
    lower.axhline(CLOSE, **style.REFERENCE)
    lower.set_ylabel("distance")


def _scale(scale: Any, values: np.ndarray) -> None:
    if len(values) and (values > 0).all() and values.max() > WIDE * values.min():
        scale("log")
