"""Flows under many schedules.

The tests compare cells with single runs, resume interrupted sweeps, compare kinds at equal numbers of steps, look at
the theory beside the flows, and give wrong input.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from annealvi.annealing.betas import BetaSchedule
from annealvi.cli.program import main
from annealvi.collapse.formula import collapse_by_formula
from annealvi.collapse.outcome import Outcomes
from annealvi.realnvp import mixture_theory, schedule_sweep
from annealvi.realnvp.schedule_sweep import Training, compare_kinds, flow_map
from annealvi.realnvp.training import Architecture, Optimiser
from annealvi.realnvp.training_run import cost_of, train_flow
from annealvi.session.session import open_session
from annealvi.sweeps.axis import Axis
from annealvi.sweeps.running import Execution
from derive.problem.specification import BadInput, Problem, ScheduleSpec, Space, Target
from kernels.particles.simulation import DivergenceError

ARCHITECTURE, OPTIMISER = Architecture(2, 8, 1), Optimiser(16, 1e-3)
TRAINING = Training(steps=20, seeds=2, architecture=ARCHITECTURE, optimiser=OPTIMISER, samples=200)
PROBLEM = Problem(space=Space(3))
X, Y = Axis("schedule.T0", 2.0, 50.0, 2, log=True), Axis("schedule.t0", 4.0, 12.0, 2)


def test_a_cell_is_the_run_of_its_schedule():
    found = flow_map(PROBLEM, X, Y, TRAINING)
    assert found["p"].dims == ("schedule.t0", "schedule.T0")
    assert found["mode_weights"].shape == (2, 2, 2, 2)
    single = Problem(space=Space(3), schedule=ScheduleSpec("exponential", 50.0, 4.0))
    # This is the second cell. Its seed is that of the first cell plus one, so that cells share no flow and their shares
    # are independent.
    run = train_flow(
        single, steps=20, seeds=2, seed=1, architecture=ARCHITECTURE, optimiser=OPTIMISER, samples=200, records=1
    )
    cell, last = found.isel({"schedule.t0": 0, "schedule.T0": 1}), run.data.isel(step=-1)
    np.testing.assert_array_equal(cell["mode_weights"], last["mode_weights"])
    np.testing.assert_array_equal(cell["reverse_kl"], last["reverse_kl"])
    assert float(cell["p"]) == run.outcomes.p
    assert (float(cell["p_low"]), float(cell["p_high"])) == run.outcomes.interval
    np.testing.assert_allclose(cell["weight_error"], np.abs(last["mode_weights"].isel(mode=0) - 0.8), atol=1e-6)
    # β is that of the last step, whose number is 19.
    np.testing.assert_allclose(cell["beta"], 1 / (1 + 49 * math.exp(-19 / 4)), rtol=1e-5)


def test_cells_are_judged_after_the_same_time_at_the_end(monkeypatch):
    """Every cell has the same number of steps after its annealing, rounded up.

    An exponential schedule from T0 reaches T = 1.05 at t0 log((T0 - 1)/0.05). The sum of this time and the steps after
    it is rounded up to a multiple of the stride.
    """
    monkeypatch.setattr(schedule_sweep, "STRIDE", 8)
    found = flow_map(PROBLEM, X, Y, replace(TRAINING, steps=None, after=6))
    wanted = [[8 * math.ceil((math.ceil(t0 * math.log((T0 - 1) / 0.05)) + 6) / 8) for T0 in (2, 50)] for t0 in (4, 12)]
    assert found["steps"].to_numpy().tolist() == wanted
    assert (found["annealed_at"] + 6 <= found["steps"]).all()


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    """None of 8 has the interval (0, 1 − 0.025^(1/8)), and all of 8 its mirror image."""
    none = Outcomes(np.ones((8, 1), bool))
    assert none.interval == pytest.approx((0, 1 - 0.025 ** (1 / 8)))
    assert Outcomes(np.zeros((8, 1), bool)).interval == pytest.approx((0.025 ** (1 / 8), 1))


def test_an_interrupted_map_goes_on_in_other_processes_to_the_same_file(tmp_path):
    """An interrupted map is completed by two other processes and gives the same file.

    The first process computes one cell, and its libraries use all cores; the libraries of each other process use one.
    """

    def interrupt(done, total):
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    flow_map(PROBLEM, X, Y, TRAINING, tmp_path / "whole.nc")
    path = tmp_path / "found.nc"
    with pytest.raises(KeyboardInterrupt):
        flow_map(PROBLEM, X, Y, TRAINING, path, how=Execution(chunk=1), progress=interrupt)
    resumed = flow_map(PROBLEM, X, Y, TRAINING, path, how=Execution(chunk=1, workers=2))
    assert path.read_bytes() == (tmp_path / "whole.nc").read_bytes()
    xr.testing.assert_identical(resumed, flow_map(PROBLEM, X, Y, TRAINING))
    assert json.loads(resumed.attrs["versions"]).keys() >= {"jax", "jaxlib", "equinox", "optax"}


def test_kinds_are_compared_at_equal_steps():
    found = compare_kinds(PROBLEM, [3.0, 30.0], ("hold", "geometric", "adaann"), anneal=12, training=TRAINING)
    assert found["kind"].to_numpy().tolist() == [
        "none",
        "none",
        "hold",
        "hold",
        "geometric",
        "geometric",
        "adaann",
        "adaann",
    ]
    assert found["T0"].to_numpy().tolist() == [1, 1, 3, 30, 3, 30, 3, 30]
    # The first two schedules have no annealing: one is trained as long as the others are, the other as long as the
    # others are at the target's own temperature.
    assert found["steps"].to_numpy().tolist() == [20, 8, *[20] * 6]
    np.testing.assert_allclose(found["beta"].isel(schedule=slice(0, 6)), 1)
    assert found["annealed_at"].to_numpy()[:6, 0].tolist() == [0, 0, 12, 12, 12, 12]
    assert np.isfinite(found["tau"].to_numpy()).tolist() == [False] * 6 + [True] * 2
    for kind in ("geometric", "exponential", "cosine"):
        schedule = BetaSchedule(schedule_sweep.spec_of_kind(kind, 30.0, 1200.0, 3))
        assert 1 / schedule(1200) == pytest.approx(1.05, rel=1e-9)


def test_adaann_takes_the_steps_asked_for_where_the_flow_keeps_up():
    """AdaAnn takes about the steps asked for where q can follow p^β.

    The target is one Gaussian in eight dimensions, for which log p has variance d/2 T². AdaAnn runs ahead until q has
    come to T0.
    """
    spec = schedule_sweep.spec_of_kind("adaann", 10.0, 600.0, 8)
    problem = Problem(target=Target(weights=(1.0,), means=((1.0,),), scales=(1.0,)), schedule=spec, space=Space(8))
    training = {"architecture": Architecture(4, 16, 2), "optimiser": Optimiser(256, 3e-3), "seeds": 2, "samples": 200}
    arrived = train_flow(problem, steps=1200, records=1, **training).data["annealed_at"][:, -1]
    assert (arrived > 300).all()
    assert (arrived < 660).all()


def test_a_cell_that_diverges_is_not_a_number_and_is_told(monkeypatch):
    def fail_when_hot(problem, **options):
        if problem.schedule.T0 > 40:
            raise DivergenceError("the loss of flow 0 is not finite at step 3; take a smaller learning rate")
        return train_flow(problem, **options)

    monkeypatch.setattr(schedule_sweep, "train_flow", fail_when_hot)
    told = []
    found = flow_map(PROBLEM, X, Y, TRAINING, tell=told.append)
    assert np.isnan(found["p"].to_numpy()).tolist() == [[False, True], [False, True]]
    assert np.isnan(found["collapsed"].to_numpy()).any(2).tolist() == [[False, True], [False, True]]
    assert len([line for line in told if "T0 = 50" in line and "not finite" in line]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: flow_map(PROBLEM, X, X, TRAINING), "key of --x already"),
        (lambda: flow_map(PROBLEM, X, Axis("w_1", 0.2, 0.8, 2), TRAINING), "a flow has no 'w_1'"),
        (
            lambda: flow_map(replace(PROBLEM, schedule=ScheduleSpec("constant", 3.0, 1.0)), X, Y, TRAINING),
            "has no such number",
        ),
        (lambda: compare_kinds(PROBLEM, [3.0], ("logarithmic",)), "has no T0 to choose"),
        (lambda: compare_kinds(PROBLEM, [1.0, 3.0]), "leaves nothing to anneal"),
        (lambda: flow_map(PROBLEM, X, Y, TRAINING, how=Execution(max_cost=1e-9)), "above the limit"),
        (lambda: compare_kinds(PROBLEM, [3.0], ("hold",), 20, TRAINING), "leave none at T = 1"),
        (lambda: compare_kinds(PROBLEM, [3.0], ("hold", "hold"), 5, TRAINING), "stands there twice"),
        (lambda: compare_kinds(PROBLEM, []), "nothing to compare"),
        (lambda: flow_map(PROBLEM, X, replace(Y, count=9999), TRAINING), "ask for at most"),
        (lambda: compare_kinds(PROBLEM, np.linspace(2, 3, 9999), ("hold", "linear")), "ask for at most"),
    ],
)
def test_wrong_requests_are_refused(change, words):
    with pytest.raises(BadInput, match=words):
        change()


def test_the_theory_beside_them_is_the_formula_at_the_same_duration(monkeypatch):
    monkeypatch.setattr(mixture_theory, "TEMPERATURES", np.array([30.0, 300.0]))
    found = mixture_theory.theory_of_kinds(Problem(), ("linear", "adaann"), 2000.0)
    assert found["kind"].to_numpy().tolist() == ["linear"]
    # Linear in T from T0 to 1.05 within 2000: t0 = 2000 (T0 - 1)/(T0 - 1.05).
    spec = ScheduleSpec("linear", 300.0, 2000 * 299 / 298.95)
    expected = collapse_by_formula(open_session(Problem(schedule=spec))).p
    # The quick quadrature has an error of 0.003.
    assert float(found["p"].sel(kind="linear", T0=300.0)) == pytest.approx(expected, abs=5e-3)
    assert float(found["none"]) > float(found["p"].max())


SMALL = ["--steps", "8", "--layers", "2", "--width", "4", "--batch", "16", "--samples", "200", "--seeds", "2"]
ARGUMENTS = ["flow", "--set", "space.dimension=3", *SMALL]
MAP = ["--x", "schedule.T0=2:50:2:log", "--y", "schedule.t0=2:4:2"]


def test_commands_write_what_they_say(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mixture_theory, "POINTS", 2)
    monkeypatch.setattr(mixture_theory, "TEMPERATURES", np.array([30.0, 300.0]))
    assert main([*ARGUMENTS, *MAP, "--out", str(tmp_path / "map"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in (tmp_path / "map").iterdir()) == ["flows-theory.nc", "flows.nc", "flows.png"]
    kept = xr.load_dataset(found["path"], engine="h5netcdf")
    np.testing.assert_array_equal(kept["p"], found["p"])
    np.testing.assert_array_equal(kept["collapsed"].mean("seed"), found["p"])
    assert {"path", "figure", "stderr", "mode_weights", "projected_variance", "emc", "ess", "collapsed"} <= found.keys()
    assert found["schedule.T0"] == pytest.approx([2, 50])
    assert xr.load_dataset(tmp_path / "map" / "flows-theory.nc", engine="scipy")["p"].shape == (2, 2)
    kinds = [*MAP[:2], "--kinds", "hold,adaann", "--anneal", "4"]
    assert main([*ARGUMENTS, *kinds, "--out", str(tmp_path / "kinds")]) == 0
    printed = capsys.readouterr().out
    assert "adaann" in printed
    assert sorted(path.name for path in (tmp_path / "kinds").iterdir()) == ["kinds-theory.nc", "kinds.nc", "kinds.png"]


def test_a_problem_without_a_theory_says_so(tmp_path, capsys):
    three = [
        "--set",
        "target.means=[[3.0],[-3.0],[0.0]]",
        "--set",
        "target.weights=[0.5,0.3,0.2]",
        "--set",
        "target.scales=[1.0,1.0,1.0]",
    ]
    assert main([*ARGUMENTS, *three, *MAP, "--out", str(tmp_path / "map")]) == 0
    assert "no theory beside the flows: " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "map").iterdir()) == ["flows.nc", "flows.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--x", "schedule.T0=2:50:2"], "give two of the three"),
        (["--kinds", "hold"], "give two of the three"),
        ([*MAP, "--kinds", "hold"], "give two of the three"),
        (["--x", "schedule.t0=2:50:2", "--kinds", "hold"], "kinds are compared over schedule.T0"),
        (["--x", "schedule.T0=2:50:2", "--y", "schedule.t1=2:4:2"], "did you mean schedule.t0?"),
        (["--x", "schedule.T0=0.5:50:2", "--y", "schedule.t0=2:4:2"], "T0"),
        (["--x", "schedule.T0=2:50:2", "--kinds", "hold,"], "has no T0 to choose"),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path, capsys):
    assert main([*ARGUMENTS, *options, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("annealvi: ")
    assert words in error[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("dimension", "architecture", "optimiser", "flows", "milliseconds"),
    [
        (2, Architecture(), Optimiser(), 4, 3.15),
        (2, Architecture(6, 32), Optimiser(128), 8, 0.47),
        (16, Architecture(), Optimiser(), 4, 3.43),
        (16, Architecture(6, 32), Optimiser(128), 8, 0.55),
        (128, Architecture(6, 32), Optimiser(128), 4, 1.37),
        (128, Architecture(6, 32), Optimiser(128, gradient="total"), 4, 1.30),
        (128, Architecture(), Optimiser(), 4, 5.11),
        (128, Architecture(), Optimiser(gradient="total"), 4, 3.96),
    ],
)
def test_the_cost_of_training_is_right_within_a_factor_of_two(dimension, architecture, optimiser, flows, milliseconds):
    """The estimate agrees with measured steps of one flow.

    The measurements are from one core, in 128 dimensions from two.
    """
    steps = 1000
    estimate = cost_of(dimension, architecture, optimiser, flows, steps, "cpu").seconds / steps / flows
    assert 0.5 < 1e3 * estimate / milliseconds < 2
