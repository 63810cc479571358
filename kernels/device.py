"""Which processor a computation runs on, named so that a user always sees what really ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba

DeviceRequest = str  # "auto", "cpu" or "cuda"; checked where it is used


class DeviceUnavailable(RuntimeError):  # noqa: N818
    """The requested device cannot run here; the message says what to install."""


@dataclass(frozen=True)
class Device:
    """A processor that can run kernels.

    kind: "cpu" or "cuda"; name: for people, e.g. "cpu (2 threads)" or "cuda: NVIDIA H200";
    simulated: True for Numba's CUDA simulator, which runs CUDA kernels slowly in Python on the CPU.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    simulated: bool = False


def resolve_device(request: DeviceRequest = "auto") -> Device:
    """The device that `request` means on this machine.

    "auto" is a real GPU where one is usable, else the CPU. "cuda" is the GPU, or Numba's simulator where NUMBA_ENABLE_CUDASIM is set.
    Raises DeviceUnavailable when "cuda" is asked for and cannot run, ValueError for any other word.
    """
    if request == "cpu":
        return _cpu()
    if request == "auto":
        if numba.config.ENABLE_CUDASIM:
            return _cpu()
        try:
            return _gpu()
        except DeviceUnavailable:
            return _cpu()
    if request == "cuda":
        if numba.config.ENABLE_CUDASIM:
            return Device("cuda", "cuda simulator", simulated=True)
        return _gpu()
    raise ValueError(f'device must be "auto", "cpu" or "cuda", not {request!r}')


def _cpu() -> Device:
    threads = numba.get_num_threads()
    return Device("cpu", f"cpu ({threads} thread{'s' if threads > 1 else ''})")


def _gpu() -> Device:
    try:
        from numba import cuda
    except ImportError as error:
        raise DeviceUnavailable(_how_to_get_cuda(f"numba.cuda cannot be imported ({error})")) from error
    if not cuda.is_available():
        raise DeviceUnavailable(_how_to_get_cuda("no usable CUDA device was found"))
    name = cuda.get_current_device().name
    return Device("cuda", f"cuda: {name.decode() if isinstance(name, bytes) else name}")


def _how_to_get_cuda(problem: str) -> str:
    ways = '`pip install "annealvi[cuda]"`, in a clone with `pip install ".[cuda]"` or `uv run --extra cuda`'
    return f"{problem}: install the CUDA component with {ways}; an NVIDIA GPU and its driver are needed too"
