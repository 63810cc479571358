"""The processor that a computation runs on, with a name that tells users what really ran."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numba
import numpy as np

DeviceRequest = str  # "auto", "cpu" or "cuda"; checked where it is used


class DeviceUnavailable(RuntimeError):  # noqa: N818
    """The requested device cannot run here; the message says what to install.

    Attributes
    ----------
    present
        Whether the machine has a GPU nevertheless.
    """

    exit_status: ClassVar[int] = 3

    def __init__(self, message: str, present: bool = False) -> None:
        super().__init__(message)
        self.present = present


@dataclass(frozen=True)
class Device:
    """A processor that can run kernels.

    Attributes
    ----------
    kind
        "cpu" or "cuda".
    name
        The name for people, such as "cpu (2 threads)" or "cuda: NVIDIA H200".
    simulated
        Whether this is Numba's CUDA simulator, which runs CUDA kernels slowly, in Python on the CPU.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    simulated: bool = False


def resolve_device(request: DeviceRequest = "auto") -> Device:
    """The device that `request` means on this machine.

    "auto" is a real GPU if a small kernel runs on it, and otherwise the CPU; a message on standard error says once why
    a GPU that is present is not used. "cuda" is the GPU, or Numba's simulator where NUMBA_ENABLE_CUDASIM is set. Raises
    DeviceUnavailable if "cuda" cannot run, and ValueError for a word other than "auto", "cpu" and "cuda".
    """
    if request == "cpu":
        return _cpu()
    if request == "auto":
        if numba.config.ENABLE_CUDASIM:
            return _cpu()
        try:
            return _gpu()
        except DeviceUnavailable as unavailable:
            if unavailable.present:
                tell_of_fallback(str(unavailable))
            return _cpu()
    if request == "cuda":
        if numba.config.ENABLE_CUDASIM:
            return Device("cuda", "cuda simulator", simulated=True)
        return _gpu()
    raise ValueError(f'device must be "auto", "cpu" or "cuda", not {request!r}')


def _cpu() -> Device:
    threads = numba.get_num_threads()
    return Device("cpu", f"cpu ({threads} thread{'s' if threads > 1 else ''})")


@cache
def tell_of_fallback(reason: str) -> None:
    """Say on standard error, once in a process, why a GPU that is present is not used."""
    sys.stderr.write(f"annealvi: computing on the CPU: {reason}\n")


def _gpu() -> Device:
    try:
        from numba import cuda
    except ImportError as error:
        raise DeviceUnavailable(_how_to_get_cuda(f"numba.cuda cannot be imported ({error})")) from error
    if not cuda.is_available():
        if found := _fault_at_start(cuda):
            raise DeviceUnavailable(_how_to_mend_cuda(found), present=True)
        raise DeviceUnavailable(_how_to_get_cuda("no usable CUDA device was found"))
    name, fault = _tried()
    if fault:
        raise DeviceUnavailable(_how_to_mend_cuda(fault), present=True)
    return Device("cuda", f"cuda: {name}")


def _fault_at_start(cuda: Any) -> str:
    """Why Numba does not offer a GPU that is present; empty if there is no GPU."""
    driver = getattr(getattr(getattr(cuda, "cudadrv", None), "driver", None), "driver", None)
    said = getattr(driver, "initialization_error", "")
    if said is None:
        return "the CUDA toolkit's compiler is not found"
    return "" if not said or "NO_DEVICE" in str(said) or "cannot be found" in str(said) else _first_line(said)


@cache
def _tried() -> tuple[str, str]:
    """The GPU's name, and the reason why it cannot run a kernel, or "" if it can.

    Once in a process, the function compiles, links and runs a kernel that calls the toolkit's library. A driver older
    than the toolkit shows only when code is linked, and a lack of memory only when a context is created.
    """
    from numba import cuda

    def exponentials(x: Any) -> None:
        i = cuda.grid(1)
        if i < x.size:
            x[i] = math.exp(x[i])

    values = np.linspace(0, 1, 4)
    wanted = np.exp(values)
    try:
        name = cuda.get_current_device().name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so small a kernel leaves most of a GPU idle
            cuda.jit(exponentials)[1, 4](values)
        cuda.synchronize()
    except Exception as error:  # Numba, the driver and the linker raise exceptions of many types
        return "", f"{type(error).__name__}: {_first_line(error)}"
    fault = "" if np.allclose(values, wanted, rtol=1e-14) else "it computes wrong numbers"
    return name.decode() if isinstance(name, bytes) else name, fault


def _first_line(said: object) -> str:
    return (str(said).strip().splitlines() or ["no reason is given"])[0][:200]


def _how_to_mend_cuda(fault: str) -> str:
    remedy = (
        "update the NVIDIA driver (`nvidia-smi` names the CUDA version that it supports), or install a "
        "CUDA toolkit that is not newer"
    )
    return f"a GPU is there, and cannot be used ({fault}): {remedy}"


def _how_to_get_cuda(problem: str) -> str:
    ways = '`pip install "annealvi[cuda]"`, in a clone with `pip install ".[cuda]"` or `uv run --extra cuda`'
    return f"{problem}: install the CUDA component with {ways}; an NVIDIA GPU and its driver are needed too"
