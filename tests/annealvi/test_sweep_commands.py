"""Maps and grids from the command line.

Any key may vary, plans compute nothing, killed sweeps go on, and results are never overwritten or written elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import matplotlib.font_manager  # it keeps its list of fonts in the home, which tests change
import numpy as np
import pytest
import xarray as xr
from places import ROOT

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.phase_maps import PhaseMap, _family_of, phase_map
from annealvi.collapse.probability import collapse_probability
from annealvi.collapse.probability_grid import CollapseGrid, Sampling, collapse_grid
from annealvi.sweeps.axis import Axis, Choices, parse_axis
from annealvi.sweeps.keys import vary
from annealvi.sweeps.running import Execution
from derive.problem.problem_file import KEYS
from derive.problem.specification import BadInput
from kernels.machine.module_cache import cache_directory

QUICK = ["--set", "space.dimension=8", "--set", "schedule.T0=5", "--set", "schedule.t0=10"]
MAP = ["phase", *QUICK, "--x", "schedule.T0=3:9:3:log", "--y", "schedule.t0=5:20:4"]


@pytest.fixture
def problem():
    return annealvi.load_problem("bimodal", QUICK[1::2])


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"schedule.T0": 7.0}, ["schedule.T0=7"]),
        ({"schedule.t0": 7.0}, ["schedule.t0=7"]),
        ({"space.dimension": 7.0}, ["space.dimension=7"]),
        ({"R": 2.0}, ["target.means=[[2], [-2]]", "proposal.radius=2"]),
        ({"w_star": 0.6}, ["target.weights=[0.6, 0.4]"]),
        ({"w_1": 0.3}, ["proposal.weights=[0.3, 0.7]"]),
        ({"target.weights[1]": 0.5}, ["target.weights=[0.5, 0.5]"]),
        ({"target.means[0][0]": 2.0}, ["target.means=[[2], [-3]]"]),
        ({"target.scales[1]": 2.0}, ["target.scales=[1, 2]"]),
        ({"proposal.radius": 2.0}, ["proposal.radius=2"]),
        ({"proposal.radius[1]": 2.0}, ["proposal.radius=[3, 2]"]),
        ({"target.scales": (1, 2)}, ["target.scales=[1, 2]"]),
        ({"flow.manifold": "euclidean"}, ["flow.manifold=euclidean"]),
        ({"schedule.kind": "adaann", "schedule.tau": 0.1}, ["schedule.kind=adaann", "schedule.tau=0.1"]),
        ({"schedule.tau": 0.1, "schedule.kind": "adaann"}, ["schedule.kind=adaann", "schedule.tau=0.1"]),
        ({"schedule.T0": 7.0, "schedule.kind": "linear"}, ["schedule.kind=linear", "schedule.T0=7"]),
    ],
)
def test_a_key_varies_as_the_problem_file_would_have_it(settings, changes):
    assert vary(annealvi.load_problem("bimodal"), settings) == annealvi.load_problem("bimodal", changes)


@pytest.mark.parametrize(
    "keys",
    [
        ("target.weights[0]", "target.weights[1]"),
        ("w_star", "target.weights[0]"),
        ("w_1", "proposal.weights"),
        ("R", "proposal.radius"),
        ("target.means[0][0]", "R"),
        ("target.scales", "target.scales[0]"),
        ("target.means[0]", "target.means[0][0]"),
    ],
)
def test_keys_that_undo_one_another_do_not_make_a_grid(keys, problem):
    with pytest.raises(BadInput, match="both set"):
        CollapseGrid(problem, tuple(Choices(key, (1.0, 2.0)) for key in keys), ("ode",))
    with pytest.raises(BadInput, match="both set"):
        phase_map(problem, *(Choices(key, (1.0, 2.0)) for key in keys))


def test_entries_that_have_nothing_to_do_with_one_another_do(problem):
    axes = tuple(Choices(key, (1.0, 2.0)) for key in ("target.scales[0]", "target.scales[1]", "R", "w_star", "w_1"))
    assert CollapseGrid(problem, axes, ("ode",)).units == 32


@pytest.mark.parametrize(
    "key", ["target[0].weights", "target.weights[0]x", "target.weights[]", "target.weights[-1]", "[0]", ""]
)
def test_what_only_looks_like_an_entry_is_no_key(key):
    with pytest.raises(BadInput, match="cannot vary"):
        Choices(key, (1.0,))


@pytest.mark.parametrize("key", ["R", "w_star", "w_1", "schedule.T0", "space.dimension"])
@pytest.mark.parametrize("value", ["abc", True, (1.0,), {"a": 1}])
def test_a_number_is_asked_for_where_one_is_needed(key, value):
    with pytest.raises(BadInput, match="is not a number"):
        vary(annealvi.load_problem("bimodal"), {key: value})


def test_weights_keep_their_proportions():
    three = annealvi.load_problem(
        "bimodal", ["target.weights=[0.5, 0.3, 0.2]", "target.means=[[1],[2],[3]]", "target.scales=[1,1,1]"]
    )
    found = vary(three, {"target.weights[0]": 0.75}).target.weights
    assert found == pytest.approx((0.75, 0.15, 0.1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target.scales[2]": 1.0}, "at target.scales[2] = 1: target.scales[2]: no such entry"),
        ({"target.means[0][5]": 1.0}, "no such entry"),
        ({"schedule.T0[0]": 1.0}, "no such entry"),
        ({"target.weights[0]": 1.5}, "not positive"),
        ({"schedule.T0": 0.5}, "at schedule.T0 = 0.5: schedule.T0"),
        ({"space.dimension": 2.5}, "not an integer"),
        ({"target.means": 3.0}, "not a list"),
    ],
)
def test_what_a_problem_refuses_is_refused_with_its_place(settings, said):
    with pytest.raises(BadInput) as refused:
        vary(annealvi.load_problem("bimodal"), settings)
    assert said in str(refused.value)


def test_a_separation_scales_all_modes_by_one_factor():
    uneven = annealvi.load_problem(
        "bimodal", ["target.means=[[0], [3], [-1.5]]", "target.weights=[0.5, 0.3, 0.2]", "target.scales=[1, 1, 1]"]
    )
    moved = vary(uneven, {"R": 2.0})
    assert moved.target.means == ((0.0,), (2.0,), (-1.0,))
    assert moved.proposal.radii == (2.0, 2.0)


def test_modes_at_the_origin_cannot_be_moved_apart():
    centred = annealvi.load_problem("bimodal", ["target.means=[[0], [0]]", "target.scales=[1, 2]"])
    with pytest.raises(BadInput, match="all modes are at the origin"):
        vary(centred, {"R": 2.0})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_the_problem_file_is_an_axis(key):
    assert parse_axis(f"{key}=[1]", "--x").key == key


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("schedule.kind=hold,linear", ["hold", "linear"]),
        ("schedule.T0=3,30", [3.0, 30.0]),
        ("schedule.T0=3", [3.0]),
        ('schedule.kind=["hold", "linear"]', ["hold", "linear"]),
        ("target.scales=[[1, 1], [1.5, 1.5]]", ["[1, 1]", "[1.5, 1.5]"]),
    ],
)
def test_values_may_be_listed(text, values):
    assert parse_axis(text, "--x").values.tolist() == values


def test_a_grid_has_the_same_numbers_as_its_points(problem):
    axes = Choices("schedule.kind", ("hold", "linear")), Axis("target.weights[0]", 0.5, 0.8, 2)
    data = collapse_grid(problem, axes, ("formula", "ode"), sampling=Sampling(n=200, seed=5))
    assert data["p_ode"].dims == ("schedule.kind", "target.weights[0]")
    one = annealvi.load_problem("bimodal", [*QUICK[1::2], "schedule.kind=linear", "target.weights=[0.8, 0.2]"])
    found = collapse_probability(annealvi.open_session(one), ("formula", "ode"), n=200, seed=5)
    point = data.sel({"schedule.kind": "linear", "target.weights[0]": 0.8})
    assert float(point["p_ode"]) == found.ode.outcomes.p
    assert float(point["stderr_ode"]) == found.ode.outcomes.stderr
    assert float(point["p_formula"]) == found.formula.p
    assert float(point["b_c"]) == found.formula.b_c[1]
    assert float(point["growth"]) == found.formula.growth


@pytest.mark.slow
def test_particles_have_a_grid_too(problem):
    sampling = Sampling(replicas=4, particles=8, t_end=2.0)
    sweep = CollapseGrid(problem, (Choices("schedule.T0", (3.0, 5.0)),), ("particles",), sampling)
    assert sweep.seconds_per_unit() > 0
    data = collapse_grid(problem, sweep.axes, ("particles",), sampling=sampling, how=Execution(chunk=2))
    assert np.isfinite(data["p_particles"]).all()
    assert data["t_end"].to_numpy() == pytest.approx(2.0)


def test_ensembles_have_maps_of_problems_without_a_formula():
    euclidean = annealvi.load_problem("bimodal", [*QUICK[1::2], "flow.manifold=euclidean"])
    axes = Choices("schedule.T0", (3.0, 5.0)), Choices("schedule.t0", (5.0, 6.0))
    with pytest.raises(BadInput, match="the formula covers"):
        phase_map(euclidean, *axes, "p")
    data = phase_map(euclidean, *axes, n=600, error=0.05, seed=4)
    assert data["p_ode"].shape == data["stderr_ode"].shape == (2, 2)
    assert (data["stderr_ode"] <= 0.05).all()
    assert (data["runs_ode"] < 600).all()
    session = annealvi.open_session(vary(euclidean, {"schedule.T0": 5.0, "schedule.t0": 6.0}))
    alone = annealvi.collapse_by_ensemble(session, n=600, error=0.05, seed=4)
    assert data["p_ode"][1, 1] == alone.outcomes.p
    assert data["runs_ode"][1, 1] == len(alone.t)


def test_maps_take_the_formula_only_where_it_holds_over_both_axes(problem):
    schedule = Choices("schedule.T0", (3.0, 5.0))
    assert PhaseMap(problem, schedule, Choices("w_star", (0.5, 0.7))).result == "p"
    assert PhaseMap(problem, schedule, Choices("target.scales[0]", (1.0, 0.9))).result == "p_ode"


def test_a_map_under_an_adaptive_schedule_says_what_each_point_takes():
    adaptive = annealvi.load_problem("bimodal", ["schedule.kind=adaann"])
    sweep = PhaseMap(adaptive, Choices("R", (2.0, 3.0)), Choices("w_star", (0.5, 0.7)))
    assert sweep.result == "p_ode"
    assert "derived and compiled by itself" in sweep.remarks[0]


def test_ensembles_take_their_own_route_for_want_of_a_formula_alone(problem, monkeypatch):
    """Maps of ensembles take their own route only where a formula is missing; any other refusal reaches the user."""

    def refuse(*_, **__):
        raise BadInput("schedule.T0", "something else is wrong", "correct it", "")

    monkeypatch.setattr("annealvi.collapse.phase_maps.Family.of", refuse)
    # The cache of earlier problems is left out.
    monkeypatch.setattr("annealvi.collapse.phase_maps._family_of", _family_of.__wrapped__)
    with pytest.raises(BadInput, match="something else is wrong"):
        phase_map(problem, Axis("R", 2, 3, 2), Axis("w_star", 0.6, 0.7, 2), "p_ode")


@pytest.mark.slow
def test_maps_and_grids_are_the_same_for_any_workers_and_chunks(problem, tmp_path):
    axes = Axis("schedule.T0", 3, 9, 4, log=True), Axis("schedule.t0", 5, 20, 4)

    def bytes_of(how, compute):
        path = tmp_path / f"{len(os.listdir(tmp_path))}.nc"
        compute(path=path, how=how)
        return path.read_bytes()

    formula = partial(phase_map, problem, *axes)
    assert bytes_of(Execution(), formula) == bytes_of(Execution(workers=2, chunk=1), formula)
    ensembles = partial(phase_map, problem, *axes, "p_ode", n=100)
    assert bytes_of(Execution(chunk=3), ensembles) == bytes_of(Execution(workers=2, chunk=1), ensembles)
    points = partial(collapse_grid, problem, axes[:1], ("ode",), sampling=Sampling(n=100))
    assert bytes_of(Execution(chunk=4), points) == bytes_of(Execution(workers=2, chunk=1), points)


def test_a_plan_is_told_and_nothing_is_done(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*MAP, "--plan", "--ode", "2", "--n", "20"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert "4 points" in told[0]  # the overlay is computed first
    assert "12 points" in told[1]
    assert "chunks on this process" in told[1]
    assert main([*MAP, "--plan", "--workers", "3", "--json", "-"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)["plan"]
    assert plan["points"] == 12
    assert plan["seconds"] > 0
    assert plan["memory"] > 3e8
    assert main(["collapse", *QUICK, "--over", "R=2:3:5", "--method", "ode", "--plan"]) == 0
    assert "5 points" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_plan_is_right_within_a_factor_of_three(problem, tmp_path):
    axes = Axis("schedule.T0", 3, 300, 40, log=True), Axis("schedule.t0", 5, 200, 12)
    from annealvi.collapse.phase_maps import PhaseMap
    from annealvi.sweeps.running import plan_sweep, run_sweep

    sweep = PhaseMap(problem, *axes)
    plan = plan_sweep(sweep, tmp_path / "map.nc", Execution())
    begun = time.perf_counter()
    run_sweep(sweep, tmp_path / "map.nc")
    assert 1 / 3 < plan.seconds / (time.perf_counter() - begun) < 3


@pytest.mark.slow
def test_the_command_goes_on_after_kill_9_to_the_same_files(tmp_path):
    swept = [*MAP, "--chunk", "1", "--ode", "2", "--n", "200", "--out"]
    arguments = [sys.executable, "-m", "annealvi", *swept]
    assert main([*swept, str(tmp_path / "whole")]) == 0
    for wait in (0.0, 0.1):
        process = subprocess.Popen(
            [*arguments, str(tmp_path / "killed")], stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        begun = time.monotonic()
        while (
            process.poll() is None
            and time.monotonic() - begun < 60
            and not list((tmp_path / "killed").glob("phase.parts/0*.nc"))
        ):
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.communicate()
    assert list((tmp_path / "killed").glob("phase*.parts/0*.nc"))
    done = subprocess.run([*arguments, str(tmp_path / "killed")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = sorted(os.listdir(tmp_path / "whole"))
    assert names == ["phase-ode.nc", "phase.nc", "phase.png"]
    assert sorted(os.listdir(tmp_path / "killed")) == names
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def wait_for_all(group):
    """Polls a process group until none of its processes is left, for which os.killpg raises an error.

    The process that keeps the pool's semaphores ends a moment after all others.
    """
    until = time.monotonic() + 20
    while time.monotonic() < until:
        os.killpg(group, 0)
        time.sleep(0.1)


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_and_its_workers_with_status_130(tmp_path):
    arguments = [
        *MAP,
        "--chunk",
        "1",
        "--workers",
        "2",
        "--result",
        "p_ode",
        "--n",
        "3000",
        "--out",
        str(tmp_path / "map"),
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "annealvi", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    begun = time.monotonic()
    while (
        process.poll() is None and time.monotonic() - begun < 300 and not list(tmp_path.glob("map/phase.parts/0*.nc"))
    ):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    *stages, last = err.splitlines()
    assert last == "annealvi: interrupted"
    assert all(line.startswith("phase: ") and line.endswith(" …") for line in stages)
    assert os.listdir(tmp_path / "map") == ["phase.parts"]
    assert not [name for name in os.listdir(tmp_path / "map" / "phase.parts") if name.startswith(".")]
    assert os.listdir(tmp_path / "scratch") == []
    with pytest.raises(ProcessLookupError):
        wait_for_all(process.pid)


STATE = '{"means": [[3, 0], [0, 3]]}'
COMMANDS = {
    "derive": (["derive"], ["derivation.txt"]),
    "derive as LaTeX": (["derive", "--format", "latex"], ["derivation.tex"]),
    "rhs": (["rhs", "--state", "state.json"], ["rhs.json"]),
    "integrate": (["integrate", "--n", "2", "--points", "3", "--t-end", "1"], ["paths.json", "paths.png"]),
    "simulate": (
        ["simulate", "--replicas", "2", "--particles", "4", "--points", "3", "--t-end", "1"],
        ["paths.json", "paths.png"],
    ),
    "collapse": (["collapse", "--method", "ode", "--n", "10"], ["collapse.json"]),
    "collapse --over": (
        ["collapse", "--method", "ode", "--n", "10", "--over", "R=2,3"],
        ["collapse.nc", "collapse.png"],
    ),
    "phase": (["phase", "--x", "schedule.T0=3,9", "--y", "schedule.t0=5,20"], ["phase.nc", "phase.png"]),
}
SLOW_COMMANDS = {
    "fixed-points": (["fixed-points"], ["fixed-points.json"]),
    "branches": (["fixed-points", "--T-range", "1:9"], ["fixed-points.json", "branches.png"]),
    "recommend": (["recommend", "--p-max", "0.1"], ["recommendation.json"]),
    "verify": (["verify"], ["report.md", "verify.json", "derivation.md", "paths.png"]),
    "flow": (["flow"], ["flow.nc", "flow.png"]),
    "flow map": (["flow", "--x", "R=2,3", "--y", "w_star=.6,.7"], ["flows.nc", "flows.png", "flows-theory.nc"]),
    "flow kinds": (["flow", "--x", "schedule.T0=2,3", "--kinds", "hold"], ["kinds.nc", "kinds.png", "kinds-theory.nc"]),
    "paper": (["paper"], ["article.tex", "article.pdf", "generated.txt"]),
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with a problem file, and a home of its own."""
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("ANNEALVI_CACHE_DIR", str(cache_directory()))  # kernels stay where they are always kept
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    Path("state.json").write_text(STATE)
    Path("mine.toml").write_text('name = "C:escaped %2e%2e"\nspace.dimension = 8\nschedule.T0 = 5\nschedule.t0 = 10\n')
    return tmp_path


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_writes_what_it_says_into_out_and_nowhere_else(name, elsewhere, capsys):
    arguments, names = COMMANDS[name]
    before = tree(elsewhere)
    command, *rest = arguments
    assert main([command, "mine.toml", *rest, "--out", "found"]) == 0
    after = tree(elsewhere)
    assert {key: after[key] for key in before} == before
    assert sorted(after.keys() - before.keys()) == sorted(f"work/found/{name}" for name in names)


@pytest.mark.parametrize("name", [*COMMANDS, *SLOW_COMMANDS])
def test_no_result_is_overwritten_without_force(name, elsewhere, capsys):
    arguments, names = {**COMMANDS, **SLOW_COMMANDS}[name]
    command, *rest = arguments
    for existing in names:
        folder = Path(f"found-{existing}")
        folder.mkdir()
        (folder / existing).write_text("hours of work")
        assert main([command, "mine.toml", *rest, "--out", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "exists already" in err
        assert "--force" in err
        assert tree(folder) == {existing: b"hours of work"}


@pytest.mark.parametrize("name", ["derive", "rhs", "integrate", "collapse", "collapse --over", "phase"])
def test_force_overwrites(name, elsewhere, capsys):
    (command, *rest), names = COMMANDS[name]
    Path("found").mkdir()
    for existing in names:
        Path("found", existing).write_text("hours of work")
    assert main([command, "mine.toml", *rest, "--out", "found", "--force"]) == 0
    assert all(content != b"hours of work" for content in tree(Path("found")).values())
    assert sorted(tree(Path("found"))) == sorted(names)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no file, whoever asks")
@pytest.mark.parametrize("option", ["--out", "--json"])
@pytest.mark.parametrize("name", [*COMMANDS, *SLOW_COMMANDS])
def test_that_a_result_cannot_be_written_is_found_out_before_the_work(name, option, elsewhere, capsys, monkeypatch):
    """The command finds out by trying: to root, the permissions of the folder look as if it took files."""

    def work(*_, **__):
        raise AssertionError("it is computed before it is known whether it can be written")

    for place in (
        "annealvi.session.session.open_session",
        "annealvi.sweeps.running._computed",
        "annealvi.sweeps.running.make_plan",
    ):
        monkeypatch.setattr(place, work)
    (command, *rest), _ = {**COMMANDS, **SLOW_COMMANDS}[name]
    assert main([command, "mine.toml", *rest, option, "/proc/self/found"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "/proc/self" in err
    assert "cannot be written" in err


@pytest.mark.parametrize("broken", ["phase.nc", "phase-ode.nc", "phase.png"])
def test_every_file_of_a_map_is_tried_before_the_first_is_computed(broken, elsewhere, capsys, monkeypatch):
    monkeypatch.setattr("annealvi.sweeps.running.make_plan", lambda *_: pytest.fail("computed too early"))
    Path("found", broken).mkdir(parents=True)
    assert main([*MAP, "--ode", "2", "--out", "found", "--force"]) == 2
    assert f"{broken}: is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["integrate", "collapse --over", "phase"])
def test_a_figure_that_cannot_be_drawn_loses_no_numbers(name, elsewhere, capsys, monkeypatch):
    """The command ends with status 1 and one line, and the same command draws the figure later.

    A sweep computes nothing anew for the later figure.
    """

    def fail(*_, **__):
        raise RuntimeError("latex could not be found\nin any place")

    (command, *rest), names = COMMANDS[name]
    swept = names[0].endswith(".nc")
    monkeypatch.setattr("annealvi.show.style.save", fail)
    arguments = [command, "mine.toml", *rest, "--out", "found", "--json", "numbers.json"]
    assert main(arguments) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert (
        line == "annealvi: the figure cannot be drawn (RuntimeError: latex could not be found in any "
        "place); its numbers are kept"
    )
    assert {path.name for path in Path("found").iterdir() if path.is_file()} == set(names) - {names[-1]}
    kept = json.loads(Path("numbers.json").read_text())
    assert not swept or kept["figure"] is None
    monkeypatch.undo()
    monkeypatch.chdir(elsewhere / "work")
    if swept:
        monkeypatch.setattr("annealvi.sweeps.engines.compute_chunk", fail)
        Path("numbers.json").unlink()
        assert main(arguments) == 0
        assert sorted(os.listdir("found")) == sorted(names)
        assert json.loads(Path("numbers.json").read_text()) == {**kept, "figure": f"found/{names[-1]}"}


DRAW = """
import xarray
from pathlib import Path
from annealvi.cli.program import main
from annealvi.collapse.collapse_figures import draw_grid, draw_phase
main(["integrate", "mine.toml", "--n", "2", "--points", "3", "--t-end", "1", "--out", out])
values = ("w_star", "R"), [[0.1, 0.2], [0.3, 0.45]], {"long_name": "P(collapse)"}
data = xarray.Dataset({"p_ode": values}, {"w_star": [0.6, 0.7], "R": [2.0, 3.0]})
draw_phase(data, Path(out, "phase.png"))
draw_grid(data.isel(w_star=0, drop=True), ("ode",), Path(out, "grid.png"))
"""


def test_figures_are_the_same_whatever_the_users_settings_of_matplotlib_are(elsewhere, capsys):
    """The user's settings of Matplotlib do not change a figure.

    A matplotlibrc in the working folder asks for TeX, which need not be installed, and for a backend that does not
    exist.
    """
    exec(DRAW, {"out": "plain"})
    settings = [
        "text.usetex: True",
        "font.size: 40",
        "font.family: no such font",
        "savefig.bbox: tight",
        "savefig.format: pdf",
    ]
    settings += [
        "axes.facecolor: red",
        "axes.grid: True",
        "image.cmap: jet",
        "backend: nonsense",
        "no.such.key: 1",
        "lines.marker: x: y",
    ]
    Path("matplotlibrc").write_text("\n".join(settings))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "nonsense", "PATH": ""}
    environment["MPLCONFIGDIR"] = matplotlib.get_cachedir()  # Matplotlib keeps its list of fonts there
    program = [sys.executable, "-c", f"out = 'found'\n{DRAW}"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = {path.name: path.read_bytes() for path in Path("plain").glob("*.png")}
    assert set(figures) == {"paths.png", "phase.png", "grid.png"}
    assert {path.name: path.read_bytes() for path in Path("found").glob("*.png")} == figures


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_named_file_is_not_overwritten_without_force(option, elsewhere, capsys):
    Path("there.json").write_text("hours of work")
    assert main(["derive", option, "there.json"]) == 2
    assert "exists already; give another path, or --force" in capsys.readouterr().err
    assert Path("there.json").read_text() == "hours of work"
    assert main(["derive", "--json", "there.json", "--force"]) == 0
    assert json.loads(Path("there.json").read_text())["states"]


@pytest.mark.parametrize("name", [*COMMANDS, "flow", "verify", "paper"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(name, dangling, elsewhere, capsys):
    (command, *rest), names = {**COMMANDS, **SLOW_COMMANDS}[name]
    Path("found").mkdir()
    target = elsewhere / "home" / "precious"
    if not dangling:
        target.write_text("precious")
    Path("found", names[-1]).symlink_to(target)
    assert main([command, "mine.toml", *rest, "--out", "found", "--force"]) == 2
    assert "leads out of found" in capsys.readouterr().err
    assert target.exists() != dangling
    assert dangling or target.read_text() == "precious"


def test_chunks_are_not_kept_where_a_link_leads(elsewhere, capsys):
    Path("found").mkdir()
    Path("found", "phase.parts").symlink_to(elsewhere / "home")
    assert main([*MAP, "--out", "found"]) == 2
    assert "leads out of found" in capsys.readouterr().err
    assert list((elsewhere / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collapse", "--plan"], "there is no sweep; add --over"),
        (["collapse", "--workers", "2"], "--workers: there is no sweep"),
        (["flow", "--engine", "dask"], "--engine: there is no sweep"),
        (["flow", "--x", "schedule.T0=a,b", "--kinds", "hold"], "a temperature is no number"),
        (["phase", "--x", "schedule.T0=2:3:1"], "1 is no number of points"),
        (["collapse", "--over", "R=2,3", "--over", "R=3,4"], "given twice"),
        (["collapse", "--over", "R=2:3:4000", "--over", "w_star=.6:.8:4000"], "ask for at most"),
        (["collapse", "--over", "schedule.T0=0.5:3:4"], "schedule.T0"),
        (
            ["collapse", "--set", "schedule.kind=constant", "--set", "schedule.T0=1", "--over", "schedule.t0=3:9:4"],
            "has no such number",
        ),
        (["collapse", "--over", "target.means=3:9:4"], "not a list"),
        (["phase", "--workers", "0"], "--help"),
        (["phase", "--scheduler", "tcp://127.0.0.1:1"], "add --engine dask"),
        (["phase", "--max-cost", "0.001"], "above the limit"),
        (["phase", "--x", "schedule.kind=hold,linear", "--ode", "3"], "no range to take points from"),
        (["flow", "--plan"], "add --x and --y, or --x and --kinds"),
        (["flow", "--x", "proposal.radius=2,3", "--y", "R=2,3"], "a flow has no 'proposal.radius'"),
    ],
)
def test_wrong_options_of_sweeps_are_one_line_and_nothing_is_written(arguments, said, elsewhere, capsys):
    assert main([*arguments, "--out", "found"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not Path("found").exists()


@pytest.mark.parametrize("name", ["phase.nc", "phase.png", "phase.parts/sweep.json"])
def test_json_does_not_go_where_a_result_goes(name, elsewhere, capsys):
    assert main([*MAP, "--out", "found", "--json", f"found/{name}", "--force"]) == 2
    assert "is a file of the result" in capsys.readouterr().err
    assert not Path("found").exists()


def test_figures_have_numbers_in_order(elsewhere, recwarn):
    assert (
        main(
            [
                "collapse",
                "mine.toml",
                "--method",
                "ode",
                "--n",
                "10",
                "--over",
                "schedule.T0=30,10,20",
                "--out",
                "found",
            ]
        )
        == 0
    )
    assert main(["phase", "mine.toml", "--x", "schedule.T0=30,10,20", "--y", "R=2,3", "--out", "found"]) == 0
    assert not [warning for warning in recwarn if "monotonic" in str(warning.message)]


def test_a_grid_in_json_is_nested_in_the_order_of_its_axes(elsewhere, capsys):
    arguments = [
        "collapse",
        "mine.toml",
        "--method",
        "ode",
        "--n",
        "20",
        "--over",
        "R=2,3,3.5",
        "--over",
        "w_star=0.6,0.7",
    ]
    assert main([*arguments, "--out", "found", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["axes"] == {"R": [2.0, 3.0, 3.5], "w_star": [0.6, 0.7]}
    with xr.open_dataset(found["path"], engine="h5netcdf") as data:
        assert data["p_ode"].to_numpy().tolist() == found["ode"]["p"]
        assert data["stderr_ode"].to_numpy().tolist() == found["ode"]["stderr"]
