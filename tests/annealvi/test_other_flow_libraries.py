"""The examples of notebooks/annealing_a_flow_of_your_own.md, each run unchanged where its library is installed."""

import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from places import ROOT

import annealvi

PAGE = ROOT / "notebooks" / "annealing_a_flow_of_your_own.md"
WITHIN, LOST = 0.05, 0.03
"""WITHIN is the largest error of the weight 0.8: three times the root mean square over seven seeds.

LOST is the weight below which a mode counts as lost.
"""


def example(heading):
    """The one block of Python below a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


ANNEALED = re.compile(r"annealvi\.beta_schedule\(.*?\)(\.optax\(\))?")
SEED = re.compile(r"(?<=key\()0(?=\))")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "library"), [("normflows", "normflows"), ("flowjax", "flowjax"), ("JAX and optax", "optax")]
)
def test_an_example_finds_the_weights_of_both_modes(heading, library):
    """Training amplifies rounding, so that the weight differs between machines as it does between seeds."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert abs(weight_found_by(example(heading)) - 0.8) < WITHIN


@pytest.mark.slow
def test_without_annealing_the_same_flow_loses_a_mode_that_is_farther_off():
    """Without annealing, some seed of three loses a mode that annealing keeps in as many steps.

    Half the distance of the modes is 4 here, since path gradients recover nearer modes even without annealing. Either
    mode may be lost, and by chance none is, so that the claim is about three seeds together.
    """
    farther = re.sub(
        r"modes = 3 ", "modes = 4 ", re.sub(r"steps = 8, \d+", "steps = 8, 2000", example("JAX and optax"))
    )
    assert LOST < weight_found_by(farther.replace("T0=9.0", "T0=16.0")) < 1 - LOST
    untempered, changes = ANNEALED.subn("(lambda step: 1.0)", farther)
    assert changes == 1
    assert any(not LOST < weight_found_by(SEED.sub(str(seed), untempered)) < 1 - LOST for seed in range(3))


def weight_found_by(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(re.search(r"weight of the first mode: ([\d.]+)", run.stdout)[1])


def test_the_numbers_in_the_example_of_a_schedule_are_right():
    block, names = example("The schedule"), {}
    exec(block, names)
    schedule = names["schedule"]
    stated = [float(x) for x in re.search(r"# ([\d.]+), ([\d.]+), ([\d.]+):", block).groups()]
    assert [round(schedule(n), 3) for n in (0, 750, 1500)] == stated


def test_the_numbers_in_the_example_of_a_barrier_are_right():
    block, names = example("How hot to begin"), {}
    exec(block, names)
    found = names["found"]
    *hits, height, hot = re.search(
        r"# maxima found by (\d+) and (\d+) starts, barrier ([\d.]+), T0 = ([\d.]+)", block
    ).groups()
    assert [str(n) for n in found.hits] == hits
    assert (f"{found.height:.2f}", f"{found.T0:.2f}") == (height, hot)
    for heading in ("normflows", "flowjax", "JAX and optax"):
        assert f'beta_schedule("geometric", T0={round(found.T0)}.0, steps=steps // 2)' in example(heading)


def test_the_loop_with_an_adaptive_rule_runs():
    drawn = np.random.default_rng(0)
    names = {"annealvi": annealvi, "descend": lambda beta: -0.5 * drawn.chisquare(8, 128) / beta}
    exec(example("Adaptive rules"), names)
    assert names["rule"].beta == 1
