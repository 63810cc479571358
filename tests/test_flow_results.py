"""What the benchmarks' page says of the flows is what their result files say."""

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import flow_tables  # noqa: E402

TABLES = flow_tables.all_tables()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table[0].split("`")[1] if "`" in table[0] else "cost")
def test_a_table_of_the_page_is_what_the_files_say(table):
    assert "\n".join(table) in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["map-16", "map-16-linear", "map-128", "kinds-16", "kinds-128"])
def test_shares_and_intervals_are_those_of_the_weights(name):
    """Counted anew: a flow is lost that gives a mode less than a tenth of its weight."""
    flows = flow_tables.load(name)
    lost = (flows["mode_weights"] < 0.1 * flows["target_weights"]).any("mode")
    np.testing.assert_array_equal(flows["collapsed"], lost)
    np.testing.assert_allclose(flows["p"], lost.mean("seed"))
    assert (flows["p_low"] <= flows["p"]).all()
    assert (flows["p"] <= flows["p_high"]).all()
    # Of no collapsed flow among n the 95 % interval ends at 1 − 0.025^(1/n).
    none = flows["p_high"].to_numpy()[flows["p"].to_numpy() == 0]
    np.testing.assert_allclose(none, 1 - 0.025 ** (1 / flows.sizes["seed"]))


def test_every_cell_was_judged_after_its_annealing():
    """AdaAnn decides for itself, and may take longer than the others."""
    for name in ("map-16", "map-16-linear", "map-128"):
        flows = flow_tables.load(name)
        assert (flows["steps"] - flows["annealed_at"] >= 2000).all()
    for name in ("kinds-16", "kinds-128"):
        flows = flow_tables.load(name)
        given = flows.isel(schedule=~np.isin(flows["kind"].to_numpy(), ["none", "adaann"]))
        left = xr.DataArray(given["steps"] - given["annealed_at"])
        assert len(np.unique(left)) == 1
