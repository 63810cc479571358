"""The same ODE and particle kernels on CUDA and on the CPU, which must agree to rounding."""

from __future__ import annotations

import json
import subprocess

import numpy as np

from annealvi.session.session import Session
from annealvi.verification.beside import Beside, last_words
from annealvi.verification.check import Check

LONGEST_SIMULATION = 600
"""Seconds of waiting after which Numba's simulator, some ten thousand times slower than the CPU, is given up."""
BOUND = 1e-11


def start_twin(session: Session) -> tuple[str, Beside] | str:
    """Start `cuda_twin` on a GPU, or in Numba's simulator where there is none.

    Returns
    -------
    The name of the device with the running program, or a line that says why CUDA cannot be compared.
    """
    from kernels.machine.device import DeviceUnavailable, resolve_device

    environment = {}
    try:
        where = resolve_device("cuda").name
    except DeviceUnavailable:
        where = "cuda simulator"
        environment["NUMBA_ENABLE_CUDASIM"] = "1"
    try:
        import numba.cuda  # noqa: F401
    except ImportError:
        return 'CUDA against CPU: not run, since numba.cuda is not installed (pip install "annealvi[cuda]")'
    return where, Beside("cuda_twin", session, environment)


def cuda_check(where: str, twin: Beside) -> Check | str:
    """The largest difference between CUDA and the CPU, or a line that says that the simulator took too long."""
    try:
        done = twin.answer(LONGEST_SIMULATION)
    except subprocess.TimeoutExpired:
        return (
            f"CUDA against CPU ({where}): not run to its end, since its averages take longer than "
            f"{LONGEST_SIMULATION} s there"
        )
    name = f"CUDA against CPU ({where})"
    if done.returncode != 0:
        return Check(name, "numeric", float("nan"), BOUND, last_words(done))
    difference = json.loads(done.stdout.strip().splitlines()[-1])
    note = "ODE and particles, float64; 1e-11: some hundred rounded operations per number"
    return Check(name, "numeric", float(np.max([difference["ode"], difference["particles"]])), BOUND, note)
