"""One style for all figures.

Every figure uses the style and nothing else changes it. Its colours and series can be told apart by the colour-blind
and in grey, and its files are fit for print.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from places import ROOT

from annealvi.show import style

SOURCES = [
    path
    for folder in ("annealvi", "tests/benchmarks", "notebooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ROOT / "annealvi" / "show" / "style.py"
]
DRAWING = re.compile(r"set_xlabel|set\(xlabel|savefig|(?:import|from) matplotlib")
FIGURES = [path for path in SOURCES if DRAWING.search(path.read_text(encoding="utf-8"))]
SETTING = re.compile(r"rcParams|rc_context|plt\.|pyplot|\.savefig|#[0-9A-Fa-f]{6}\b|font\.size|figsize|dpi=")

# The matrices of Machado, Oliveira and Fernandes (2009) for severity 1, which act on linear RGB; retyped.
VISION = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
TOLD_APART = 15.0
"""The least distance of two colours in CIELAB.

A difference of 2.3 is just noticeable between large fields. A line of 1.4 points at arm's length is less than a tenth
of a degree wide, and such small marks need about six times that difference.
"""


def linear(colour: np.ndarray) -> np.ndarray:
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def lab(colour: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIELAB of an sRGB colour as a person with this vision sees it."""
    x = XYZ @ np.clip(vision @ linear(colour), 0, 1) / XYZ.sum(1)
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_there_are_figures():
    assert {"collapse_figures.py", "bifurcation_diagram.py", "sweep_figures.py", "run.py"} <= {
        path.name for path in FIGURES
    }
    assert sum(path.parent.name == "notebooks" for path in FIGURES) >= 3


@pytest.mark.quick
@pytest.mark.parametrize("path", FIGURES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_figure_uses_the_style(path):
    assert "style.figure(" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_sets_one(path):
    assert SETTING.findall(path.read_text(encoding="utf-8")) == []


def sample(folder: Path) -> list[bytes]:
    """A figure in every format that has each kind of element for which Matplotlib has settings."""
    with style.figure(rows=2, sharex=True) as (figure, (above, below)):
        above.plot([0, 1, 2], [1e-7, 3e-7, 2e-7], **style.line(1), label=r"$w^\star$")
        above.errorbar([0, 1], [1e-7, 2e-7], [1e-8, 1e-8], **style.points(0))
        above.legend(title="legend")
        figure.colorbar(below.imshow([[0.0, 1.0], [-1.0, 0.5]]))
        below.set_xlabel(style.LABELS["T"])
        below.text(0, 0, "text")
    return [
        *(style.save(figure, folder / f"figure.{form}").read_bytes() for form in ("png", "pdf")),
        figure._repr_png_(),
    ]


def test_nothing_of_the_users_settings_is_in_a_figure(tmp_path):
    """Figures do not change where every setting of Matplotlib has another value, be it a number, a switch or a word."""
    plain = sample(tmp_path)
    other = {}
    for name, value in mpl.rcParams.items():
        if name.split(".")[0] in (
            "backend",
            "backend_fallback",
            "interactive",
            "toolbar",
            "keymap",
            "tk",
            "webagg",
            "macosx",
            "animation",
        ):
            continue
        other[name] = (
            (not value) if isinstance(value, bool) else value * 1.5 + 0.1 if isinstance(value, float) else value
        )
    other |= {
        "text.usetex": True,
        "font.family": ["no such font"],
        "image.cmap": "jet",
        "savefig.bbox": "tight",
        "savefig.format": "svg",
    }
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = 0
        for name, value in other.items():
            with contextlib.suppress(ValueError):
                mpl.rcParams[name] = value
                taken += mpl.rcParams[name] != mpl.rcParamsDefault[name]
        assert taken > 100
        assert sample(tmp_path) == plain


@pytest.mark.parametrize("backend", ["nonsense", "module://no_such_module", "svg", "", None])
def test_no_named_backend_is_needed_and_one_that_is_known_is_chosen_as_before(backend, tmp_path):
    """A figure needs no backend, but a named backend that Matplotlib knows stays chosen.

    Figures do without pyplot; the backend is kept for the user's own use of pyplot.
    """
    code = (
        "import os, sys; from annealvi.show import style\n"
        f"with style.figure() as (figure, panel): panel.plot([0, 1])\n"
        f"style.save(figure, {str(tmp_path / 'figure.png')!r}); assert 'matplotlib.pyplot' not in sys.modules\n"
        "print(os.environ.get('MPLBACKEND'), dict.get(style.mpl.rcParams, 'backend'), sep='|')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {} if backend is None else {"MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == ""
    environ, chosen = done.stdout.strip().split("|")
    assert environ == str(backend)
    assert (chosen == backend) == (backend in ("svg", "module://no_such_module"))


def test_a_matplotlib_that_does_not_start_is_one_line_before_the_work(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"# \xff\n")
    code = "import sys; from annealvi.cli.program import main; sys.exit(main(['integrate', '--out', 'found']))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("annealvi: figures: Matplotlib does not start (UnicodeDecodeError: ")
    assert [path.name for path in tmp_path.iterdir()] == ["matplotlibrc"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_matplotlib_is_imported_by_the_style_alone(path):
    """The style alone imports Matplotlib, because it takes care of the backend.

    Other modules may name Matplotlib's types in annotations.
    """
    source = path.read_text(encoding="utf-8")
    imports = [line for line in source.splitlines() if re.match(r"(?:import|from) matplotlib", line)]
    assert imports == [] or path.parent.name == "notebooks"  # the kernel of a notebook names a backend of its own


def test_nothing_is_set_for_the_process(tmp_path):
    before = dict(mpl.rcParams)
    with style.figure(rows=2) as (figure, (panel, _)):
        panel.plot([0, 1], [0, 1])
    style.save(figure, tmp_path / "figure.png", pdf=True)
    assert figure._repr_png_()
    assert dict(mpl.rcParams) == before
    imports = "import annealvi.show.style, annealvi.show.path_figures"
    code = f"import matplotlib as m; before = dict(m.rcParams); {imports}; print(before == dict(m.rcParams))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        == "True"
    )


@pytest.mark.quick
@pytest.mark.parametrize("vision", VISION)
def test_colours_are_told_apart(vision):
    seen = [lab(np.array(mpl.colors.to_rgb(colour)), VISION[vision]) for colour in style.SERIES]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > TOLD_APART


def test_series_are_told_apart_in_grey():
    """Series differ by dash and by marker, because colours of similar lightness do not differ in grey."""
    assert len({str(style.line(n)["linestyle"]) for n in range(len(style.SERIES))}) == len(style.SERIES)
    assert len({style.points(n)["marker"] for n in range(len(style.SERIES))}) == len(style.SERIES)


@pytest.mark.parametrize("vision", VISION)
def test_the_map_grows_lighter_all_the_way(vision):
    colours = mpl.colormaps[style.MAP](np.linspace(0, 1, 256))[:, :3]
    assert (np.diff([lab(colour, VISION[vision])[0] for colour in colours]) > 0).all()


def test_a_pdf_has_its_fonts_as_type_42(tmp_path):
    with style.figure(style.ONE_COLUMN, 2.0) as (figure, panel):
        panel.plot([0, 1], [0, 1], **style.line(0), label=r"$w^\star$, β")
        panel.set_xlabel(style.LABELS["schedule.T0"])
        panel.legend()
    png = style.save(figure, tmp_path / "figure.png", pdf=True)
    pdf = png.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf  # TrueType programs, which the font type 42 wraps
    assert b"/Type3" not in pdf
    assert b"/CreationDate" not in pdf
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == round(style.ONE_COLUMN * style.DPI)
