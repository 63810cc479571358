"""The one style of every figure: colours by their role, sizes for print, and how a figure is begun and saved.

    from annealvi import style

    with style.figure(style.TWO_COLUMNS, 2.6, columns=2, sharey=True) as (figure, (left, right)):
        left.plot(t, m_1, **style.line(0), label="$m_1$")      # series 0: a colour and a dash of its own
        left.errorbar(t, mean, error, **style.points(0))       # the same series as points
        left.set(xlabel=style.LABELS["t"], ylabel="overlap")
    style.save(figure, "paper/figures/overlaps.png", pdf=True)  # and overlaps.pdf

In a notebook a cell that ends with `figure` shows it. Nothing is set for the process: Matplotlib's settings are as
before outside, and within they are this style's and Matplotlib's defaults, nothing of a matplotlibrc. Figures have
canvases of their own and need no pyplot, so MPLBACKEND does not matter. Other modules take what they need of Matplotlib
from here, where it is imported whatever that names.

Colours are those of Okabe and Ito, which people with any of the common deficiencies tell apart; as they can share a
lightness, each series has a dash and a marker too and survives a grey print. A figure has no title, for that is its
caption; panels may have a label.
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
    """Matplotlib does not import where MPLBACKEND names no backend. One that it knows is chosen afterwards, as it would
    have been."""
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
"""Widths in inches at which a figure is printed, so that its letters are printed at their size."""
DPI = 200

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, YELLOW = "#E69F00", "#56B4E9", "#000000", "#F0E442"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Of lines in one panel, in this order. Yellow is left out: it is too light for a line on white."""
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
"""Runs that keep all modes, and runs that lose one."""
REFERENCE: dict[str, Any] = {"color": "0.35", "linestyle": (0, (4, 2)), "linewidth": 0.9}
"""The line of what others are held against: the target's value, or no annealing."""
FAINT = "0.62"
"""What is there but does not act, such as unstable branches."""
BAND = "0.92"
"""The range in which differences are chance."""
OVERLAY = "#FFFFFF"
"""Contours and their numbers upon the map of MAP."""
MAP = "viridis"
"""Sequential, of a lightness that rises all the way: it is read alike in grey and by the colour-blind."""

SMALL = 7.0
"""Points of the smallest letters: numbers in cells and on contours."""

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
"""What an axis shows, in the study's notation."""


def label(key: str) -> str:
    """Of an axis over a key of the problem."""
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
    """The style while the context lasts; as a decorator, while the function runs. `figure` needs neither."""
    defaults = {name: value for name, value in dict.items(mpl.rcParamsDefault) if name != "backend"}
    return mpl.rc_context({**defaults, **SETTINGS})


class Drawing(Figure):
    """A figure that is drawn in this style wherever that happens, and that a notebook shows as a PNG."""

    def draw(self, renderer: Any) -> None:
        with applied():  # ticks and text are made as late as now
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return _encoded(self, "png", self.dpi)


@contextmanager
def figure(
    width: float = TWO_COLUMNS, height: float = 2.6, rows: int = 1, columns: int = 1, **options: Any
) -> Iterator[tuple[Any, Any]]:
    """Begin a figure: yields (figure, panels), with the style in force inside the `with`.

    width, height: in inches, the width ONE_COLUMN or TWO_COLUMNS for print. panels: one Axes, or an array of rows ×
    columns of them, as from `Figure.subplots`, which takes the options (sharex, sharey, squeeze, height_ratios, …).
    Labels are fitted in by themselves.
    """
    with applied():
        begun = Drawing(figsize=(width, height), layout="constrained")
        yield begun, begun.subplots(rows, columns, **options)


def save(figure: Figure, path: PathLike, pdf: bool = False) -> Path:
    """Write the figure in the format of the path's name (PNG at DPI, PDF, SVG), whole or not at all; returns the path.

    pdf: write it beside as PDF too, with lines as vectors and the fonts embedded as Type 42.
    """
    path = Path(path)
    write_file(path, _encoded(figure, path.suffix.lstrip("."), DPI))
    if pdf:
        write_file(path.with_suffix(".pdf"), _encoded(figure, "pdf", DPI))
    return path


def line(n: int) -> dict[str, Any]:
    """Colour and dash of the n-th series of a panel, for `plot`; n from 0."""
    return {"color": SERIES[n % len(SERIES)], "linestyle": DASHES[n % len(DASHES)]}


def points(n: int) -> dict[str, Any]:
    """Colour and marker of the n-th series as open points, for `plot` and `errorbar`; n from 0."""
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
