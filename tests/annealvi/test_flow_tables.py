"""The tables and figures of flows.

They are legible at 80 columns for few modes and for many, and show every number with its uncertainty. The results are
made up, so nothing is trained.
"""

import json
import re

import numpy as np
import pytest
import xarray as xr

from annealvi.realnvp.flow_tables import print_flow, print_kinds, print_map
from annealvi.realnvp.run_figures import flow_figure
from annealvi.realnvp.training_run import FlowRun

STEPS = np.array([0, 1000, 2000, 3000])


def run_of(modes, flows=4):
    """A made-up result whose flows all have different numbers.

    From three modes on, every flow but the first misses every fifth mode.
    """
    random = np.random.default_rng(modes)
    wanted = np.full(modes, 1 / modes)
    lost = (
        np.array([[k % 5 == n for k in range(modes)] for n in range(1, flows + 1)])
        if modes > 2
        else np.zeros((flows, modes), bool)
    )
    lost[0] = False
    weights = np.where(lost, 0, random.uniform(0.9, 1.1, (flows, modes)))
    weights /= weights.sum(1, keepdims=True)
    numbers = {
        "entropic_mode_coverage": 0.11 + 0.1 * np.arange(flows),
        "reverse_ess": 0.17 + 0.1 * np.arange(flows),
        "forward_ess": np.full(flows, 0.5),
        "uncovered": 0.123 + 0.1 * np.arange(flows),
        "reverse_kl": 1.456 + 10 * np.arange(flows),
        "forward_kl": np.full(flows, 0.5),
        "projected_variance": np.full(flows, 3.0),
        "beta": np.ones(flows),
        "annealed_at": np.array([1200.0, 1200, 1400, np.nan])[np.arange(flows) % 4],
    }
    data = {name: (("seed", "step"), np.repeat(values[:, None], len(STEPS), 1)) for name, values in numbers.items()}
    data |= {
        "mode_weights": (("seed", "step", "mode"), np.repeat(weights[:, None], len(STEPS), 1)),
        "target_weights": ("mode", wanted),
        "covered": (("seed", "mode"), ~lost),
        "half_life": ("seed", np.array([0, 456.7, np.inf, np.nan])[np.arange(flows) % 4]),
        "projected_modes": (("seed", "mode", "axis"), np.tile(random.normal(size=(modes, 2)) * 9, (flows, 1, 1))),
        "projection": (("seed", "sample", "axis"), random.normal(size=(flows, 50, 2)) * 9),
    }
    dataset = xr.Dataset(data, {"seed": np.arange(flows), "step": STEPS}, {"settings": json.dumps({"samples": 2048})})
    return FlowRun(dataset, "cpu", "a method in words"), weights, lost


def printed(capsys, show, *arguments):
    show(*arguments)
    return capsys.readouterr().out.splitlines()


def cells(lines):
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in lines if line[0] in "│┃"]


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("modes", [2, 4, 8, 40])
def test_a_run_is_legible_whatever_its_modes(modes, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    run, weights, lost = run_of(modes)
    lines = printed(capsys, print_flow, run, "name")
    assert [line for line in lines if len(line) > columns or "…" in line or "┃┃" in line or "││" in line] == []
    heading, *rows = cells(lines)
    assert heading[-5:] == ["EMC", "ESS", "uncovered", "KL", "half-life"]
    half_lives = ["right", "457", "not seen", "T > 1.05"]
    for n, row in enumerate(rows):
        assert row[-5:] == [
            f"{0.11 + 0.1 * n:.2f}",
            f"{0.17 + 0.1 * n:.2f}",
            f"{0.123 + 0.1 * n:.3f}",
            f"{1.456 + 10 * n:.3f}",
            half_lives[n],
        ]
        shown = [" ".join(f"{w:.3f}" for w in weights[n])]
        error = np.maximum(weights[n] - 1 / modes, 0).sum()  # the excess weights are half of all that is wrong
        assert row[:-5] == [
            str(n),
            *(shown if "mode weights" in heading else [f"{modes - lost[n].sum()}/{modes}", f"{error:.3f}"]),
        ]
    assert len(rows) == 4
    assert ("mode weights" in heading) == (modes == 2 or (modes, columns) == (4, 100))
    text = " ".join(line.strip() for line in lines)
    assert "judged at step 3000, 1600 to 1800 steps after T = 1.05; 1 of 4 flows never at T <= 1.05" in text
    assert "recovered: 1 of 2 flows whose weights were wrong, with a median half-life of 457" in text
    assert "median of 4 flows (least to largest)" in text
    # Clopper and Pearson: for none of four the interval ends at 1 − 0.025^(1/4).
    assert (f"P(collapse) = 0.000, 95 % interval 0.000 to {1 - 0.025**0.25:.3f}: 0 of 4 flows" in text) == (modes == 2)


def test_modes_that_are_missed_are_listed_and_cut_off(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, print_flow, run_of(40)[0], "")
    assert "  flow 1 misses modes 3, 8, 13, 18, 23, 28, 33, 38" in lines
    run, *_ = run_of(40, 20)
    run.data["covered"][:] = True
    run.data["covered"][5:9, [0, 1, 4, 6, 7, 8]] = False
    run.data["covered"][9, ::2] = False
    lines = printed(capsys, print_flow, run, "")
    assert "  flows 5–8 miss modes 1, 2, 5, 7–9" in lines
    assert "  flow 9 misses modes 1, 3, 5, 7, 9, 11, 13, 15 and 12 more" in lines
    assert "  weights: median of 20 flows (10 to 90 % of them)" in lines


def test_json_of_a_run_says_when_and_how_surely():
    found = run_of(8)[0].as_dict()
    assert found["judged_at"] == 3000
    assert found["p"] == 0.75
    assert found["p_interval"] == pytest.approx((0.1941, 0.9937), abs=1e-4)  # three of four, from published tables
    assert found["half_life"][1] == 456.7
    assert len(found["weight_error"]) == 4


@pytest.mark.parametrize("modes", [2, 8])
def test_a_figure_marks_the_end_of_annealing_and_shows_all_weights_of_many_modes(modes):
    run, weights, _ = run_of(modes)
    panels = flow_figure(run.data, np.ones(modes)).axes
    assert all(any(np.all(np.asarray(line.get_xdata()) == 1200) for line in panel.lines) for panel in panels[:6])
    if modes > 2:
        first = panels[0].lines[0].get_ydata()
        np.testing.assert_allclose(first, np.maximum(weights[0] - 1 / modes, 0).sum())
        np.testing.assert_allclose([line.get_ydata() for line in panels[6].lines], weights)
        np.testing.assert_allclose([bar.get_height() for bar in panels[6].patches], 1 / modes)


def sweep_of(dims, shape, **coordinates):
    """A made-up sweep of three flows a cell.

    In the first cell, the first flow has nothing to recover and the second recovers in 321 steps.
    """
    full = np.ones(shape)
    half_life = np.full((*shape, 3), np.inf)
    half_life[(0,) * len(shape)] = [0, 321, np.inf]
    each = {
        "half_life": half_life,
        "annealed_at": np.full((*shape, 3), 700.0),
        "weight_error": full[..., None] * [0.1, 0.2, 0.4],
    }
    each["reverse_kl"] = full[..., None] * [0.5, 0.6, 0.9]
    data = {name: ((*dims, "seed"), values) for name, values in each.items()}
    shares = {"p": 1 / 3, "p_low": 0.0084, "p_high": 0.9057}
    data |= {name: (dims, value * full) for name, value in shares.items()}
    return xr.Dataset(data, coordinates, {"method": "a method", "device": "cpu"})


def test_sweeps_say_when_flows_were_judged_and_how_surely(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    x, y = np.geomspace(2, 50, 5), np.array([10.0, 20.0])
    a_map = sweep_of(("schedule.t0", "schedule.T0"), (2, 5), **{"schedule.t0": y, "schedule.T0": x})
    a_map["steps"] = (("schedule.t0", "schedule.T0"), np.array([[2700] * 5, [2900] * 5]))
    kinds = sweep_of(
        ("schedule",),
        (2,),
        kind=("schedule", ["linear", "hold"]),
        T0=("schedule", [3.0, 4.0]),
        steps=("schedule", [2700, 2700]),
    )
    for show, data, words in (
        (print_map, a_map, "judged at the last of 2700 to 2900 steps, 2000 to 2200 steps after T = 1.05"),
        (print_kinds, kinds, "judged at step 2700"),
    ):
        lines = printed(capsys, show, data, "name")
        assert [line for line in lines if len(line) > 80 or "…" in line or "┃┃" in line] == []
        text = " ".join(line.strip() for line in lines)
        shown = (
            "0.33",
            "(0.01–0.91)",
            "0.200",
            "(0.10–0.40)",
            "1 of 2",
            "0 of 3",
            "321",
            "median of 3 flows (least to largest)",
        )
        assert [word for word in (words, *shown) if word not in text] == []
    assert ["hold", "4", "2000"] in [row[:3] for row in cells(lines)]
