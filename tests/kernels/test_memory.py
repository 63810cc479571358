"""A large ensemble needs memory for its outcomes only: its states are drawn, integrated and dropped in parts."""

import subprocess
import sys
from pathlib import Path

import pytest

PEAKS = """
import os, re, sys
from pathlib import Path
from annealvi.cli.program import main

for n in sys.argv[1:]:
    quick = ["--set", "schedule.T0=2", "--set", "schedule.t0=1"]
    if main(["collapse", "--method", "ode", *quick, "--n", n, "--json", os.devnull]):
        sys.exit("the command fails")
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
FEW, MANY, MOST = 20_000, 1_000_000, 10_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is told by /proc")
def test_ten_million_trajectories_take_less_than_a_gibibyte():
    """The test extrapolates the growth from few to many trajectories.

    About ten bytes of each trajectory remain: the time when its outcome was decided, and the outcome.
    """
    run = subprocess.run([sys.executable, "-c", PEAKS, str(FEW), str(MANY)], capture_output=True, text=True, check=True)
    few, many = (1024 * int(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("peak"))
    slope = (many - few) / (MANY - FEW)
    assert slope < 30
    assert few + slope * (MOST - FEW) < 2**30
