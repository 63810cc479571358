"""Tests CUDA kernels without a GPU: runs them in Numba's simulator in another process, and compiles them to PTX."""

import json
import os
import subprocess
import sys

import numba
import numba.cuda
import pytest
from places import PYTHONPATH

from kernels.machine.device import resolve_device

needs_gpu = pytest.mark.skipif(
    numba.config.ENABLE_CUDASIM or resolve_device("auto").kind != "cuda", reason="needs an NVIDIA GPU"
)
needs_compiler = pytest.mark.skipif(numba.config.ENABLE_CUDASIM, reason="the simulator replaces the compiler")


def in_simulator(expression, module, before="pass"):
    """The value of an expression in a process with Numba's simulator, passed back as JSON.

    The expression may use the test module as t, such as t.results('cuda'). before: statements that run first.
    """
    # The simulator's main thread asks without a pause whether the others wait. Each hand-over of the interpreter to one
    # of them takes the switch interval, which by default is longer than all of its work.
    hurry = "import sys; sys.setswitchinterval(1e-4)"
    program = f"{hurry}; {before}; import json, {module} as t; print(json.dumps({expression}))"
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": PYTHONPATH}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
