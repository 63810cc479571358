"""Generated modules on their device: how their entries are launched, on CPU threads or on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from types import ModuleType
from typing import Any

import numba
import numpy as np

from kernels.generate.entry_source import OF_THE_SYSTEM
from kernels.generate.system_calls import OWN
from kernels.machine.device import Device
from kernels.machine.stages import stage
from kernels.machine.threads import run_on_threads, wait_until

THREADS_PER_BLOCK = 64
RESIDENT_THREADS = 2**18
"""The most CUDA threads of a launch, which is enough to fill the largest GPU. A thread whose trajectory has ended takes
over another one."""
PARTS_PER_THREAD, ROUNDS = 4, 8
"""A batch has at most PARTS_PER_THREAD parts for each CPU thread, and a part fills its lanes at least ROUNDS times. In
fewer rounds the lanes would spend too much of their time waiting for the last trajectory."""


@dataclass(frozen=True)
class Executable:
    """The generated modules of a system on a device.

    Attributes
    ----------
    module
        The system's module.
    schedule
        The module of the schedule: on CUDA the system's.
    integrator
        The module with the entries, which are compiled when they first run: on CUDA the system's.
    where
        The device.
    precision
        "float64" or "float32".
    lanes
        How many trajectories advance together.
    """

    module: ModuleType
    schedule: ModuleType
    integrator: ModuleType
    where: Device
    precision: str
    lanes: int

    def parts(self, count: int, sets: int = 1) -> int:
        """Into how many parts to divide the `count` trajectories of each set. Results do not depend on this number."""
        if self.where.kind == "cuda":
            return min(count, max(1, RESIDENT_THREADS // sets))
        threads = numba.get_num_threads()
        full = -(-count // self.lanes)
        return min(full, PARTS_PER_THREAD * threads, max(threads, full // ROUNDS))

    def launch(
        self,
        name: str,
        units: int,
        numbers: Sequence[int],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        brief: bool = False,
    ) -> None:
        """Run an entry of the integrator and wait for it.

        units: the number of units of work; on CUDA each unit is a thread. numbers: the entry's last arguments. inputs,
        outputs: the arrays that the entry reads and those that it writes. brief: whether the work on the CPU is over so
        soon that the caller's thread should do it.
        """
        entry = getattr(self.integrator, name)
        # Numba would compile anew for another dtype, for a read-only array and for an array that is not contiguous.
        inputs = [np.require(a, self.precision if a.dtype.kind == "f" else a.dtype, ["C", "W"]) for a in inputs]
        if self.where.kind == "cpu":
            own = [getattr(self.schedule if name == OWN["set_betas"] else self.module, name) for name in OWN.values()]
            with stage("compiling the kernels"):
                for function in own:
                    function.compile()
            constants = [getattr(self.module, name) for name in OF_THE_SYSTEM]
            run_on_threads(entry, units, *own, *constants, *inputs, *outputs, *numbers, brief=brief)
        elif units > 0:
            self._launch_on_gpu(entry, units, numbers, inputs, outputs)

    def _launch_on_gpu(
        self,
        entry: Any,
        units: int,
        numbers: Sequence[int],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
    ) -> None:
        from numba import cuda  # optional and slow to import, so imported only here

        on_device = [cuda.to_device(a) for a in (*inputs, *outputs)]
        flag = cuda.mapped_array(1, np.int64)  # host memory that the GPU can read
        flag[0] = 0
        entry[-(-units // THREADS_PER_BLOCK), THREADS_PER_BLOCK](flag, *on_device, *numbers)
        if not self.where.simulated:  # the simulator's launches return when they are done
            done = cuda.event(timing=False)
            done.record()
            wait_until(partial(_is_past, done), flag)
        for host, there in zip(outputs, on_device[len(inputs) :], strict=True):
            there.copy_to_host(host)


def _is_past(event: Any, seconds: float) -> bool:
    """Whether a CUDA event is past, after waiting for it for at most the given time."""
    end = monotonic() + seconds
    while not event.query():
        if monotonic() > end:
            return False
        sleep(1e-4)
    return True
