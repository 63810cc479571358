"""Maps over two numbers of a problem: their axes, values and files, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import annealvi
import annealvi.session.session
from annealvi.cli.program import main
from annealvi.collapse import formula_coverage, separatrix
from annealvi.collapse.formula import collapse_by_formula
from annealvi.collapse.phase_maps import phase_map
from annealvi.sweeps.axis import Axis, parse_axis
from derive.problem.specification import BadInput

X, Y = "schedule.T0=5:50:3:log", "schedule.t0=10:40:2"
SMALL = ["phase", "--x", X, "--y", Y]


@pytest.fixture
def problem():
    return annealvi.load_problem("bimodal", ["space.dimension=32"])


def test_axes_are_read_as_they_are_written():
    assert parse_axis(X, "--x") == Axis("schedule.T0", 5.0, 50.0, 3, True)
    assert parse_axis(Y, "--y").values == pytest.approx([10, 40])
    assert parse_axis(X, "--x").values == pytest.approx([5, np.sqrt(250), 50])
    assert parse_axis("space.dimension=10:11:5", "--x").values.tolist() == [10, 11]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule.T0", "not an axis"),
        ("schedule.T0=1:2", "not an axis"),
        ("schedule.T0=1:2:3:lin", "not an axis"),
        ("schedule.T0=1:2:3:log:log", "not an axis"),
        ("schedule.T0=a:2:3", "not an axis"),
        ("schedule.T0=5:5:3", "empty"),
        ("schedule.T0=9:5:3", "empty"),
        ("schedule.T0=1:nan:3", "empty"),
        ("schedule.T0=1:inf:3", "empty"),
        ("schedule.T0=1:5:1", "no number of points"),
        ("R=0:5:4:log", "empty"),
        ("space.dimension=2.5:30:4", "space.dimension = 2.5 is not an integer"),
        ("space.dimension=8:30.5:4", "space.dimension = 30.5 is not an integer"),
        ("schedule.tt=1:5:4", "did you mean schedule.t0"),
        ("foo.bar=0:1:4", "cannot vary"),
        ("R=2,2", "has a value twice"),
        ("R=2,", "not an axis"),
        ("R=[2", "not an axis"),
    ],
)
def test_what_is_no_axis_is_refused_in_one_line(text, said):
    with pytest.raises(BadInput, match=said):
        parse_axis(text, "--x")


def test_a_map_holds_the_formula_at_every_point(problem):
    """A map has the accuracy QUICK, which claims to be within 0.003 of FINE."""
    data = phase_map(problem, parse_axis(X, "--x"), parse_axis(Y, "--y"))
    assert data["p"].dims == ("schedule.t0", "schedule.T0")
    for t0 in data["schedule.t0"].values:
        for T0 in data["schedule.T0"].values:
            changes = ["space.dimension=32", f"schedule.T0={float(T0)}", f"schedule.t0={float(t0)}"]
            exact = collapse_by_formula(annealvi.open_session(annealvi.load_problem("bimodal", changes)))
            assert float(data["p"].sel({"schedule.T0": T0, "schedule.t0": t0})) == pytest.approx(exact.p, abs=0.003)


@pytest.mark.parametrize("result", ["p_leading", "b_c", "growth", "p_ode"])
def test_every_result_has_a_map(problem, result):
    data = phase_map(problem, parse_axis(X, "--x"), parse_axis(Y, "--y"), result, n=100)
    assert data[result].shape == (2, 3)
    assert np.isfinite(data[result]).all()
    assert {"annealvi", "versions", "problem", "device", "processor", "request"} <= set(data.attrs)


@pytest.mark.parametrize("key", ["R=1.8:2:2", "w_star=0.6:0.7:2", "w_1=0.5:0.6:2", "space.dimension=16:64:2"])
def test_each_key_varies_the_problem_itself(problem, key):
    data = phase_map(problem, parse_axis(key, "--x"), parse_axis("schedule.T0=5:9:2", "--y"))
    axis = parse_axis(key, "--x")
    changes = {
        "R": lambda v: [f"target.means=[[{v}], [{-v}]]", f"proposal.radius={v}"],
        "w_star": lambda v: [f"target.weights=[{v}, {1 - v}]"],
        "w_1": lambda v: [f"proposal.weights=[{v}, {1 - v}]"],
        "space.dimension": lambda v: [f"space.dimension={int(v)}"],
    }[axis.key](float(axis.values[1]))
    base = [] if axis.key == "space.dimension" else ["space.dimension=32"]
    exact = collapse_by_formula(
        annealvi.open_session(annealvi.load_problem("bimodal", [*base, *changes, "schedule.T0=9"]))
    )
    assert float(data["p"][1, 1]) == pytest.approx(exact.p, abs=0.003)


def test_one_key_cannot_be_both_axes(problem):
    with pytest.raises(BadInput, match="already"):
        phase_map(problem, parse_axis(X, "--x"), parse_axis(X, "--y"))


def test_values_that_a_problem_refuses_are_refused_before_any_row(problem, tmp_path):
    with pytest.raises(BadInput, match="below 1"):
        phase_map(
            problem, parse_axis("schedule.T0=0.5:5:3", "--x"), parse_axis(Y, "--y"), path=tmp_path / "map" / "map.nc"
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_labelled_file_and_a_figure(tmp_path, capsys):
    assert main([*SMALL, "--ode", "2", "--n", "50", "--out", str(tmp_path / "map"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"path", "figure", "warnings"}
    data = xr.load_dataset(found["path"], engine="h5netcdf")
    assert data["p"].dims == ("schedule.t0", "schedule.T0")
    assert 0 < float(data["p"].min()) < float(data["p"].max()) < 1
    assert sorted(p.name for p in (tmp_path / "map").iterdir()) == ["phase-ode.nc", "phase.nc", "phase.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--x", "schedule.T0=5:1:3"],
        ["--x", X, "--y", X],
        ["--result", "q"],
        ["learned-weights", "--max-cost", "60"],  # hours of ensembles; its averages are quicker to tabulate than others
        ["--ode", "1"],
    ],
)
def test_the_command_refuses_with_status_2_and_writes_nothing(arguments, tmp_path, capsys):
    assert main(["phase", *arguments, "--out", str(tmp_path / "map")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("foo", 3, 30, 5),
        ("R", 3, 3, 5),
        ("R", 3, 2, 5),
        ("R", 2, 3, 1),
        ("R", 2, 3, 2.5),
        ("R", float("nan"), 3, 5),
        ("R", "2", 3, 5),
    ],
)
def test_an_axis_made_in_code_is_checked_too(wrong):
    with pytest.raises(annealvi.BadInput, match="axis"):
        annealvi.Axis(*wrong)
    with pytest.raises(annealvi.BadInput, match="axis"):
        annealvi.Axis("schedule.T0", 0, 30, 5, log=True)


def test_an_axis_of_dimensions_begins_where_the_formula_holds():
    axes = Axis("space.dimension", 2, 4, 3), Axis("schedule.t0", 10, 30, 2)
    with pytest.raises(annealvi.BadInput, match="d >= 3, not 2"):
        phase_map(annealvi.load_problem("bimodal"), *axes, "p")
    assert phase_map(annealvi.load_problem("bimodal"), *axes, n=100)["p_ode"].shape == (2, 3)


VARIANTS = {
    "euclidean": ["flow.manifold=euclidean"],
    "modes at an angle": ["target.means=[[3,0],[0,3]]"],
    "modes on a line": ["target.means=[[3],[-2]]"],
    "unequal radii": ["proposal.radius=[3,2.5]"],
    "adaptive": ["schedule.kind=adaann"],
    "constant": ["schedule.kind=constant", "schedule.T0=1"],
}


@pytest.mark.parametrize(
    "name", [*(name for name in annealvi.BUILT_IN if not name.startswith("slips-")), "slips-8", *VARIANTS]
)
def test_what_the_formula_covers_is_known_before_a_derivation(name):
    problem = (
        annealvi.load_problem(name) if name in annealvi.BUILT_IN else annealvi.load_problem("bimodal", VARIANTS[name])
    )
    assert formula_coverage.is_covered(problem) == separatrix.covers(annealvi.open_session(problem))


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["phase", "simplex", "--result", "p"], "--result p_ode"),
        (["phase", "two-scales", "--result", "b_c"], "--result p_ode"),
        (["phase", "slips-8", "--result", "p", "--plan"], "--result p_ode"),
        (["phase", "bimodal", "--result", "p", "--set", "space.dimension=2"], "--result p_ode"),
        (["recommend", "one-component", "--p-max", "0.1"], "as many components as modes"),
        (["collapse", "simplex", "--method", "formula"], "--method ode"),
        (["phase", "bimodal", "--result", "p", "--x", "space.dimension=2:9:3"], "--result p_ode"),
    ],
)
def test_what_the_formula_does_not_cover_is_refused_before_a_derivation(
    arguments, remedy, monkeypatch, tmp_path, capsys
):
    def derived(*_):
        raise AssertionError

    monkeypatch.setattr("derive.dynamics.symbolic_problem.SymbolicProblem.derived", derived)
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert remedy in err
    assert err.startswith(f"annealvi: {'--set' if '--set' in arguments else arguments[1]}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "k3.toml", "--p-max", "0.1"], "k3.toml: proposal.weights: under any schedule 2 of 3"),
        (["collapse", "k3.toml", "--method", "formula"], "k3.toml: target.means: the formula covers"),
        (["phase", "k3.toml", "--result", "p_ode", "--x", "schedule.T0=0.1:30:4"], "at schedule.T0 = 0.1"),
        (
            ["phase", "--set", "schedule.kind=table", "--set", "schedule.points=[[0,9],[9,1]]"],
            "schedule.T0: schedule.kind 'table' has no",
        ),
        (["phase", "--x", "schedule.kind=3:30:4"], "schedule.kind: 3.0 is unknown"),
        (["collapse", "--over", "schedule.t0=0:30:4"], "at schedule.t0 = 0"),
    ],
)
def test_what_the_problem_alone_decides_is_refused_without_the_libraries_that_compute(arguments, said, tmp_path):
    """A wrong axis is refused even where the file of its map already exists."""
    (tmp_path / "k3.toml").write_text(
        "[target]\nweights = [0.5, 0.3, 0.2]\nmeans = [[3], [-3], [0, 4]]\nscales = [1, 1, 1]\n"
    )
    (tmp_path / arguments[0]).mkdir()
    (tmp_path / arguments[0] / f"{arguments[0]}.nc").touch()
    blocked = "sys.modules.update(dict.fromkeys(('numba', 'matplotlib', 'scipy', 'xarray')))"
    code = f"import sys; {blocked}; from annealvi.cli.program import main; main({arguments})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert said in done.stderr


def test_the_share_of_a_missed_mode_reaches_the_overlays(tmp_path, monkeypatch):
    sweeps = []
    monkeypatch.setattr(
        "annealvi.cli.commands.phase.show_plans", lambda _options, wanted, _figure: sweeps.extend(wanted.values()) or 0
    )
    arguments = [
        "learned-weights",
        "--result",
        "p_ode",
        "--least-weight",
        "0.3",
        "--ode",
        "2",
        "--particles",
        "2",
        "--plan",
    ]
    assert main(["phase", *arguments, "--out", str(tmp_path / "map")]) == 0
    overlay, particles, whole = sweeps
    assert (overlay.least_weight, particles.sampling.least_weight, whole.least_weight) == (0.3, 0.3, 0.3)
