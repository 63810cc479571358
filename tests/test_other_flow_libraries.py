"""The examples of notebooks/annealing_a_flow_of_your_own.md, run as they stand where their library is installed."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "notebooks" / "annealing_a_flow_of_your_own.md"
LOST = 0.03


def example(heading):
    """The one block of Python under a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return block


ANNEALED = re.compile(r"annealvi\.beta_schedule\(.*?\)(\.optax\(\))?")
SEED = re.compile(r"(?<=key\()0(?=\))|(?<=manual_seed\()0(?=\))")


@pytest.mark.slow
@pytest.mark.parametrize(("heading", "library"), [("normflows", "normflows"), ("flowjax", "flowjax"), ("JAX and optax", "optax")])
def test_an_example_keeps_both_modes_and_would_lose_one_without_annealing(heading, library):
    """Training amplifies rounding, so the weight differs between machines: the claims are those that hold over seeds."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code = example(heading)
    # The lighter mode, of weight 0.2, is not lost; the heavier one, of weight 0.8, leads.
    assert 0.5 < weight_found_by(code) < 1 - LOST
    untempered, changes = ANNEALED.subn("(lambda step: 1.0)", code)
    assert changes == 1
    # Of 19 untempered runs on two of the libraries 15 lost a mode, either one: three that keep both have a chance of 1 %.
    assert any(not LOST < weight_found_by(SEED.sub(str(seed), untempered)) < 1 - LOST for seed in range(3))


def weight_found_by(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(re.search(r"weight of the first mode: ([\d.]+)", run.stdout)[1])


def test_the_numbers_in_the_first_example_are_right():
    block = example("The schedule")
    names = {}
    exec(block, names)
    schedule = names["schedule"]
    stated = [float(x) for x in re.search(r"# ([\d.]+), ([\d.]+), ([\d.]+):", block).groups()]
    assert [round(schedule(n), 3) for n in (0, 750, 1500)] == stated
