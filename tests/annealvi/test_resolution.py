"""Warnings beside an answer: about modes that make one maximum of the density, and modes too light to resolve."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.phase_maps import PhaseMap
from annealvi.session import resolution
from annealvi.session.resolution import maxima_between, warnings_of, warnings_over
from annealvi.sweeps.axis import Axis
from derive.problem.built_in import BUILT_IN

CLOSE = ["--set", "target.means=[[0.5], [-0.5]]"]
LIGHT = ["--set", "target.weights=[0.999999999, 1e-9]"]


def maxima_on_a_grid(weights, scales, distance):
    """The number of maxima, counted where the slope of the log density falls through zero.

    The slope is positive at the first mean and negative at the second, however near to them it changes its sign.
    """
    near = np.geomspace(1e-12, 0.5, 20_000)
    x = distance * np.unique(np.concatenate([near, 1 - near]))
    logs = [
        math.log(w) + norm.logpdf(x, place, s) for w, place, s in zip(weights, (0.0, distance), scales, strict=True)
    ]
    share = np.exp(logs[1] - np.logaddexp(*logs))
    slope = -(1 - share) * x / scales[0] ** 2 + share * (distance - x) / scales[1] ** 2
    signs = np.concatenate([[1], np.sign(slope), [-1]])
    return int((np.diff(signs[signs != 0]) < 0).sum())


@pytest.mark.parametrize(("factor", "maxima"), [(0.999, 1), (1.001, 2)])
def test_equal_halves_part_at_two_widths(factor, maxima):
    assert maxima_between((0.5, 0.5), (0.7, 0.7), factor * 2 * 0.7) == maxima


def test_the_number_of_maxima_is_that_of_a_grid():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        w, scales, distance = (
            10 ** rng.uniform(-6, -0.01),
            tuple(10 ** rng.uniform(-0.4, 0.4, 2)),
            rng.uniform(0.5, 8.0),
        )
        found.append(maxima_between((w, 1 - w), scales, distance))
        assert found[-1] == maxima_on_a_grid((w, 1 - w), scales, distance), (w, scales, distance)
    assert 50 < found.count(1) < 250


@pytest.mark.parametrize("name", BUILT_IN)
def test_nothing_is_said_of_the_built_in_problems(name):
    assert warnings_of(BUILT_IN[name]) == ()


def test_what_is_said_of_which_modes():
    chain = annealvi.Target((0.25,) * 4, ((0.0,), (1.5,), (3.0,), (9.0,)), (1.0,) * 4)
    (line,) = warnings_of(annealvi.Problem(target=chain))
    assert line.startswith("modes 1, 2, 3 make one maximum")
    far = annealvi.Target((1 - 1e-9, 1e-9), ((9.0,), (-9.0,)), (1.0, 1.0))
    (line,) = warnings_of(annealvi.Problem(target=far))
    assert "mode 2 has the weight 1e-09, below the resolution" in line
    rare = annealvi.Problem(target=annealvi.Target((0.9997, 0.0003), ((5.0,), (-5.0,)), (1.0, 1.0)))
    assert warnings_of(rare) == ()
    assert "of the 2048 samples of a judgement less than one" in warnings_of(rare, 2048)[0]


def test_a_sweep_says_at_how_many_points():
    axes = (Axis("R", 0.5, 2.5, 5), Axis("schedule.T0", 3, 30, 4))
    (line,) = warnings_over(annealvi.Problem(), axes)
    # Modes of weight 0.8 and 0.2 part at R = 1.29; the points are 0.5, 1, 1.5, …
    assert line.startswith("at 2 of 5 points, such as R = 0.5: modes 1, 2 make one")
    assert warnings_over(annealvi.Problem(), axes[1:]) == ()


def test_a_sweep_looks_at_so_many_points_and_no_more(monkeypatch):
    """A sweep looks at a limited number of points, and only once however often its labels are read.

    An axis of the proposal alone needs a single point.
    """
    seen = []
    monkeypatch.setattr(resolution, "warnings_of", lambda problem, _samples: seen.append(problem) or ())
    axes = (Axis("R", 2, 3, 1000), Axis("w_star", 0.6, 0.7, 1000))
    sweep = PhaseMap(annealvi.Problem(), *axes, device="cpu")
    for _ in range(3):
        assert "warnings" not in sweep.attributes
    assert resolution.MOST_POINTS / 2 < len(seen) <= resolution.MOST_POINTS
    seen.clear()
    warnings_over(annealvi.Problem(), (Axis("w_1", 0.2, 0.8, 9),))
    assert len(seen) == 1


@pytest.mark.parametrize(("change", "said"), [(CLOSE, "make one maximum"), (LIGHT, "below the resolution")])
def test_collapse_says_it_and_answers(change, said, capsys):
    short = ["--set", "schedule.T0=1", "--set", "schedule.kind=constant", "--method", "ode", "--n", "4"]
    assert main(["collapse", *change, *short, "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert said in printed.err
    found = json.loads(printed.out)
    assert any(said in line for line in found["warnings"])
    assert 0 <= found["ode"]["p"] <= 1


def test_phase_says_it_in_the_file_too(tmp_path, capsys):
    axes = ["--x", "R=0.9:2:2", "--y", "schedule.T0=2:3:2"]
    assert (
        main(["phase", *axes, "--set", "schedule.t0=2", "--result", "p_leading", "--out", str(tmp_path), "--json", "-"])
        == 0
    )
    printed = capsys.readouterr()
    assert "at 1 of 2 points, such as R = 0.9" in printed.err
    found = json.loads(printed.out)
    with xr.open_dataset(found["path"], engine="h5netcdf") as data:
        assert [data.attrs["warnings"]] == found["warnings"]
