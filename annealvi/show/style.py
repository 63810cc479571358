"""The one style of every figure: colours by their role, sizes for print, and how a figure is begun and saved.

    from annealvi import style

    with style.figure(style.TWO_COLUMNS, 2.6, columns=2, sharey=True) as (figure, (left, right)):
        left.plot(t, m_1, **style.line(0), label="$m_1$")      # series 0: a colour and a dash of its own
        left.errorbar(t, mean, error, **style.points(0))       # the same series as points
        left.set(xlabel=style.LABELS["t"], ylabel="overlap")
    style.save(figure, "paper/figures/overlaps.png", pdf=True)  # and overlaps.pdf

A notebook cell that ends with `figure` shows the figure. The style does not change the process: within the `with`
Matplotlib has this style's settings and its own defaults, nothing of a matplotlibrc, and outside it has the settings
that it had before. Figures have canvases of their own and need no pyplot, so MPLBACKEND does not matter. Other modules
import what they need of Matplotlib from here, because this module imports it whatever MPLBACKEND names.

The colours are those of Okabe and Ito, which people with any of the common colour deficiencies tell apart. Some of them
share a lightness, so each series also has a dash and a marker of its own and survives a grey print. A figure has no
title, because its caption is one; panels may have a label.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from annealvi.show.output import PathLike, write_file
from derive.problem.specification import BadInput


@contextmanager
def _whatever_the_backend() -> Iterator[None]:
    """Import Matplotlib within the block although MPLBACKEND may name an unknown backend, which stops the import.

    A backend that Matplotlib knows is chosen afterwards. BadInput where Matplotlib does not start for other reasons.
    """
    named = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        yield
    except Exception as error:
        said = f"Matplotlib does not start ({type(error).__name__}: {str(error)[:200]})"
        raise BadInput("figures", said, "mend the matplotlibrc that it reads, or install it anew", "") from error
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with suppress(ValueError):
            mpl.rcParams["backend"] = named


with _whatever_the_backend():
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib import ticker as ticker
    from matplotlib.colors import Normalize as Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D as Line2D

ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0
"""Widths of a figure in inches, for one and two columns of print. Printed at this width, letters have their size."""
DPI = 200

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, YELLOW = "#E69F00", "#56B4E9", "#000000", "#F0E442"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Colours of the lines in one panel, in this order. Yellow is left out because it is too light for a line on white."""
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 1.5)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (1.3, 1.2)),
    (0, (3, 1)),
    (0, (8, 1.5, 1.2, 1.5, 1.2, 1.5)),
    (0, (10, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

KEPT, LOST = BLUE, VERMILION
"""Colours of runs that keep all modes, and of runs that lose one."""
REFERENCE: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 2)), "linewidth": 0.9}
"""The line of a reference value: the target's, or that without annealing."""
FAINT = "0.62"
"""The colour of things that exist but do not act, such as unstable branches."""
BAND = "0.92"
"""The colour of the range in which differences are chance."""
OVERLAY = "#FFFFFF"
"""The colour of contours and their numbers upon a map in the colours of MAP."""
MAP = "viridis"
"""A sequential colour map whose lightness rises all the way, so that it reads alike in grey and for the
colour-blind."""

SMALL = 7.0
"""Size in points of the smallest letters: numbers in cells and on contours."""

LABELS = {
    "t": "time $t$",
    "T": "temperature $T$",
    "beta": r"inverse temperature $\beta$",
    "p": "P(collapse)",
    "duration": "duration $D$",
    "schedule.T0": "initial temperature $T_0$",
    "schedule.t0": "time scale $t_0$",
    "space.dimension": "dimension $d$",
    "R": "separation $R$",
    "w_star": r"weight of the first mode $w^\star$",
    "w_1": "weight of the first component $w_1$",
}
"""Labels of axes by the quantity or the key of the problem that they show, in the study's notation."""


def label(key: str) -> str:
    """Return the label of an axis over a key of the problem.

    Parameters
    ----------
    key : str
        Such as "schedule.T0".

    Returns
    -------
    str
        The label in LABELS, or the key itself.

    Examples
    --------
    >>> label("schedule.T0")
    'initial temperature $T_0$'
    """
    return LABELS.get(key, key)


SETTINGS: dict[str, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlepad": 4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "image.cmap": MAP,
    "axes.prop_cycle": cycler(color=SERIES),
    "figure.dpi": 130,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # TrueType, which journals accept and editors can edit
    "ps.fonttype": 42,
    "svg.fonttype": "none",
}


def applied() -> AbstractContextManager[Any]:
    """Apply the style within a context or, as a decorator, while a function runs. `figure` needs neither.

    Returns
    -------
    context manager
    """
    defaults = {name: value for name, value in dict.items(mpl.rcParamsDefault) if name != "backend"}
    return mpl.rc_context({**defaults, **SETTINGS})


class Drawing(Figure):
    """A figure that is always drawn in this style, and that a notebook shows as a PNG."""

    def draw(self, renderer: Any) -> None:
        with applied():  # Matplotlib makes ticks and text only when it draws
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return _encoded(self, "png", self.dpi)


@contextmanager
def figure(
    width: float = TWO_COLUMNS, height: float = 2.6, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """Begin a figure, with the style in force inside the `with`. Matplotlib makes room for the labels.

    Parameters
    ----------
    width, height : float
        Size in inches; for print the width is ONE_COLUMN or TWO_COLUMNS.
    rows, columns : int
        Numbers of panels.
    **options
        Passed to `Figure.subplots`: sharex, sharey, squeeze, height_ratios, and so on.

    Yields
    ------
    figure : Drawing
    panels : Axes, or ndarray of Axes, shape (rows, columns)
        As `Figure.subplots` returns them.

    Examples
    --------
    >>> with figure(ONE_COLUMN, 2.0, columns=2) as (begun, (left, right)):
    ...     lines = left.plot([0, 1], [0.0, 0.5], **line(0))
    >>> len(begun.axes)
    2
    """
    with applied():
        begun = Drawing(figsize=(width, height), layout="constrained")
        yield begun, begun.subplots(rows, columns, **options)


def save(figure: Figure, path: PathLike, pdf: bool = False) -> Path:
    """Write a figure to a file, whole or not at all.

    Parameters
    ----------
    figure : Figure
    path : path-like
        Its suffix gives the format: PNG (at DPI), PDF or SVG.
    pdf : bool
        Write a PDF beside it too, with lines as vectors and the fonts embedded as Type 42.

    Returns
    -------
    Path
        The path of the first file.

    Raises
    ------
    BadInput
        If a file cannot be written.
    """
    path = Path(path)
    write_file(path, _encoded(figure, path.suffix.lstrip("."), DPI))
    if pdf:
        write_file(path.with_suffix(".pdf"), _encoded(figure, "pdf", DPI))
    return path


def line(n: int) -> dict[str, Any]:
    """Return the colour and the dash of a series of lines.

    Parameters
    ----------
    n : int
        The number of the series in its panel, from 0.

    Returns
    -------
    dict
        Keyword arguments of `Axes.plot`.

    Examples
    --------
    >>> line(0)
    {'color': '#0072B2', 'linestyle': '-'}
    """
    return {"color": SERIES[n % len(SERIES)], "linestyle": DASHES[n % len(DASHES)]}


def points(n: int) -> dict[str, Any]:
    """Return the colour and the marker of a series of open points; its colour is that of the n-th `line`.

    Parameters
    ----------
    n : int
        The number of the series in its panel, from 0.

    Returns
    -------
    dict
        Keyword arguments of `Axes.plot` and `Axes.errorbar`.
    """
    colour = SERIES[n % len(SERIES)]
    return {
        "color": colour,
        "marker": MARKERS[n % len(MARKERS)],
        "linestyle": "",
        "markerfacecolor": "white",
        "markeredgecolor": colour,
    }


def _encoded(figure: Figure, form: str, dpi: float) -> bytes:
    buffer = io.BytesIO()
    with applied():
        # Without a date two runs of the same numbers give the same file.
        figure.savefig(buffer, format=form, dpi=dpi, metadata={"CreationDate": None} if form == "pdf" else None)
    return buffer.getvalue()
