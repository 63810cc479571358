"""The pages about flows state what the result files of the benchmarks contain."""

import json
import sys

import numpy as np
import pytest
import xarray as xr
from places import ROOT, TESTS

BENCHMARKS = TESTS / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import flow_tables  # noqa: E402

PAGE = " ".join((ROOT / "docs" / "flows.md").read_text(encoding="utf-8").split())


def test_the_tables_of_the_page_are_what_the_files_say():
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert [table[0] for table in flow_tables.all_tables() if "\n".join(table) not in page] == []


def test_path_gradients_cost_at_most_seven_tenths_more():
    for found in json.loads((flow_tables.RESULTS / "cost.json").read_text(encoding="utf-8")):
        assert found["ratio"] == pytest.approx(found["path"] / found["total"])
        assert found["ratio"] <= 1.7


@pytest.mark.parametrize("name", ["map-16-linear", "map-16", "map-128", "kinds-16", "kinds-128"])
def test_shares_and_intervals_are_those_of_the_weights(name):
    """The shares and intervals in the files follow from the weights.

    The test counts the lost flows again: a flow is lost where it gives a mode less than a tenth of its weight.
    """
    flows = flow_tables.load(name)
    lost = (flows["mode_weights"] < 0.1 * flows["target_weights"]).any("mode")
    np.testing.assert_array_equal(flows["collapsed"], lost)
    np.testing.assert_allclose(flows["p"], lost.mean("seed"))
    assert (flows["p_low"] <= flows["p"]).all()
    assert (flows["p"] <= flows["p_high"]).all()
    # Where no flow among n is lost, the 95 % interval ends at 1 − 0.025^(1/n).
    none = flows["p_high"].to_numpy()[flows["p"].to_numpy() == 0]
    np.testing.assert_allclose(none, 1 - 0.025 ** (1 / flows.sizes["seed"]))


def test_every_cell_was_judged_after_its_annealing():
    """Every cell has steps left after its annealing; among the other kinds their number is the same.

    AdaAnn decides for itself how long it anneals, and may take longer than the other kinds.
    """
    for name in ("map-16-linear", "map-16", "map-128"):
        flows = flow_tables.load(name)
        assert (flows["steps"] - flows["annealed_at"] >= 2000).all()
    for name in ("kinds-16", "kinds-128"):
        flows = flow_tables.load(name)
        given = flows.isel(schedule=~np.isin(flows["kind"].to_numpy(), ["none", "adaann"]))
        left = xr.DataArray(given["steps"] - given["annealed_at"])
        assert len(np.unique(left)) == 1


def test_the_defaults_end_with_the_right_weights_within_ten_minutes():
    """The command's defaults give the right weights with either seed; the divergence is bounded for the default seed
    alone."""
    runs = flow_tables.load("default-128")
    last = runs.isel(step=-1)
    assert runs["run"].to_numpy().tolist() == [0, 1]
    assert runs.sizes["seed"] == 4
    assert (abs(last["mode_weights"] - runs["target_weights"]) < 0.03).all()
    assert (last["reverse_kl"].sel(run=0) < 0.03).all()
    assert runs.attrs["seconds"] <= 600
    assert runs.attrs["cores"] == 2
    first = last["mode_weights"].isel(mode=0)
    one, other = (
        f"{float(kl.min()):.3f} to {float(kl.max()):.3f}" for kl in (last["reverse_kl"].sel(run=n) for n in (0, 1))
    )
    weights = f"ends at weights of {float(first.min()):.2f} to {float(first.max()):.2f} and divergences of"
    assert f"{weights} {one} in four flows, and of {other} with another seed." in PAGE


def lost(name, *conditions):
    """How many flows are lost among all flows whose schedules meet the conditions."""
    flows = flow_tables.load(name)
    cells = flows["collapsed"].to_numpy()[np.logical_and.reduce([condition(flows) for condition in conditions])]
    return f"{int(cells.sum())} of {cells.size}"


def of_kinds(*kinds):
    return lambda flows: np.isin(flows["kind"].to_numpy(), kinds)


def test_the_counts_on_the_page_are_those_of_the_files():
    gradual = of_kinds("exponential", "geometric", "adaann")
    for words in (
        f"a mode in {lost('kinds-16', of_kinds('hold'), lambda f: f['T0'].to_numpy() > 40)} from T₀ = 40 on",
        f"after as many steps ({lost('kinds-16', of_kinds('none'), lambda f: f['steps'].to_numpy() == 2000)})",
        f"they lose one in {lost('kinds-16', of_kinds('hold'), lambda f: f['T0'].to_numpy() < 6)}.",
        f"cooling lost one in {lost('kinds-16', gradual)}.",
        f"Given 3500 steps, "
        f"{lost('kinds-16', of_kinds('none'), lambda f: f['steps'].to_numpy() == 3500)} untempered flows",
    ):
        assert words in PAGE
    warm = flow_tables.load("map-128")["collapsed"].isel({"schedule.T0": slice(1, None)})
    counts = warm.sum(["schedule.T0", "seed"]).to_numpy().astype(int)
    assert (
        f"in {counts[0]} of {warm[0].size} flows at t₀ = 150, in {counts[1]} at 300 and in {counts[2]} at 600." in PAGE
    )
    linear = (
        flow_tables.load("map-16-linear")["collapsed"].sel({"schedule.t0": 95}, method="nearest").sum("seed").to_numpy()
    )
    assert linear[[0, 1]].tolist() == [7, 0]
    assert (linear[4:] == 8).all()


def test_the_weights_on_the_page_are_those_of_the_files():
    runs = flow_tables.load("weights-128")
    of_row = {"path": 0, "total": 1, "none": 5, "constant": 6, "total constant": 7}

    def spread(row, name="mode_weights"):
        run = runs.isel(run=of_row[row])
        values = run[name].sel(step=int(run["steps"]))
        return values.isel(mode=0) if name == "mode_weights" else values

    def rounded(values):
        return f"{float(values.median()):.2f} ({float(values.min()):.2f} to {float(values.max()):.2f})"

    assert [str(runs["gradient"][n].item()) for n in (0, 1, 6, 7)] == ["path", "total", "path", "total"]
    assert [str(runs["decay"][n].item()) for n in (0, 1, 6, 7)] == ["cosine", "cosine", "constant", "constant"]
    assert runs["cooling"][5] == 0
    path, total, constant, both = (
        float(spread(row, "reverse_kl").median()) for row in ("path", "total", "constant", "total constant")
    )
    assert (
        f"at a weight of {rounded(spread('path'))}, where w* = 0.8, and KL(q‖p*) = {path:.3f} with path gradients"
        in PAGE
    )
    assert f"all else equal, at {rounded(spread('total'))} and {total:.3f}, at a constant rate" in PAGE
    assert f"at a constant rate at {rounded(spread('constant'))} and {constant:.3f}, with both at" in PAGE
    assert f"with both at {rounded(spread('total constant'))} and {both:.3f}." in PAGE
    late = runs["mode_weights"].isel(mode=0).sel(step=slice(14_000, 20_000)).std("step", ddof=1)
    assert 0.04 < float(late.isel(run=[6, 7]).min()) < float(late.isel(run=[6, 7]).max()) < 0.08
    assert 0.01 < float(late.isel(run=[0, 1]).min()) < float(late.isel(run=[0, 1]).max()) < 0.025
    recipe = " ".join((ROOT / "notebooks" / "annealing_a_flow_of_your_own.md").read_text(encoding="utf-8").split())
    words = (
        f"a divergence of {path:.3f} becomes {total:.3f} with total gradients, {constant:.3f} at a constant "
        f"rate, and {both:.3f} with both."
    )
    assert words in recipe
    assert float(spread("path", "reverse_kl").max()) < float(spread("constant", "reverse_kl").min())
    assert float(spread("constant", "reverse_kl").median()) < float(spread("total constant", "reverse_kl").min())
    assert float(spread("path", "reverse_kl").max()) < float(spread("total", "reverse_kl").min())
    assert f"at a weight of {rounded(spread('none'))} after 12 000" in PAGE
    assert (runs["mode_weights"].isel(run=5, mode=0).sel(step=1000) > 0.98).all()
    small = flow_tables.load("kinds-128")
    chosen = small.isel(schedule=small["kind"].to_numpy() == "geometric")
    assert (
        f"end at {float(chosen['mode_weights'].isel(mode=0).median()):.2f} after 6000 steps of path gradients" in PAGE
    )
    slips = flow_tables.load("slips")
    annealed = slips.isel(schedule=slips["kind"].to_numpy() != "none")
    kept = (1 - annealed["collapsed"]).sum(["schedule", "seed"]).sel(dimension=[8, 32, 128]).to_numpy().astype(int)
    assert (
        f"in {kept[0]} of 12 runs in d = 8, in {kept[1]} of 12 in d = 32 and in {kept[2]} of 12 in d "
        f"= 128, untempered ones in none." in PAGE
    )
    assert (slips["collapsed"].isel(schedule=slips["kind"].to_numpy() == "none") == 1).all()
    errors = annealed["weight_error"].mean("seed")
    assert f"wrong by {float(errors.min()):.2f} to {float(errors.max()):.2f} in the mean" in PAGE
    ring = flow_tables.load("ring-8")
    untempered = ring.isel(schedule=ring["kind"].to_numpy() == "none")
    assert ((untempered["mode_weights"] > 0.1 * untempered["target_weights"]).sum("mode") == 1).all()
