"""A new schedule kind needs one record; the whole package takes the kind from there."""

from __future__ import annotations

import os
import subprocess
import sys

from places import ROOT

WALKED = (
    "claims_of_the_record",
    "lists_of_kinds",
    "problem_file",
    "schedule",
    "training_loops",
    "growth_exponent",
    "generated_kernel",
)


def test_one_record_takes_a_new_kind_through_the_package(tmp_path):
    """A process of its own registers the record before anything else.

    Its kernels run as plain Python.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path, "ANNEALVI_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tests" / "support" / "new_schedule_kind.py")]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == [*WALKED]
