"""Every kind of CUDA kernel, as compiled and assembled for sm_90 without a GPU.

NVIDIA's linker contains its assembler, which counts registers and the bytes that spill from them to memory.
"""

import re
from dataclasses import dataclass
from functools import cache

import numba
import numba.cuda
import numpy as np
from numba import boolean, float64, int64, uint64
from numba.core.types import UniTuple

from kernels.generate.codegen import generate
from kernels.integrate.executable import THREADS_PER_BLOCK
from kernels.machine.module_cache import load_module
from kernels.particles.cuda.blocks import block_shape
from kernels.particles.cuda.covariances import (
    covariant_block_shape,
    estimate_covariant_source,
    move_covariances_source,
)
from kernels.particles.cuda.estimate import estimate_source
from kernels.particles.cuda.forward import add_forward_part_source
from kernels.particles.cuda.moves import move_all_shapes_source, move_means_source
from kernels.particles.cuda.projection import lift_source, span_means_source

REGISTERS, THREADS, BLOCKS, SHARED = 65_536, 2048, 32, 227 * 1024
"""What a multiprocessor of sm_90 holds: CUDA C++ Programming Guide, compute capabilities."""
UNIT_OF_REGISTERS, WARP, SHARED_OF_SYSTEM = 256, 32, 1024
"""Registers are given to a warp in such units, and the system takes so many bytes of shared memory for each block."""


@dataclass(frozen=True)
class CudaKernel:
    """A kernel as a Python function with the types of its arguments, and the threads of a block."""

    name: str
    function: object
    signature: tuple
    threads: int


@dataclass(frozen=True)
class Assembly:
    """What a kernel needs on sm_90: registers of a thread, and bytes of a thread's stack, of its spills, and of shared
    memory."""

    registers: int
    stack: int
    spilled: int
    shared: int

    def occupancy(self, threads):
        """The share of the multiprocessor's threads that run at once, in blocks of so many threads."""
        warps = -(-threads // WARP)
        of_warp = -(-self.registers * WARP // UNIT_OF_REGISTERS) * UNIT_OF_REGISTERS
        by_registers = REGISTERS // of_warp // warps
        by_shared = SHARED // (self.shared + SHARED_OF_SYSTEM)
        return min(by_registers, by_shared, BLOCKS, THREADS // threads) * threads / THREADS


def ptx_of(kernel):
    """The PTX of a kernel for sm_90."""
    return _ptx(kernel.function, kernel.signature)


@cache
def _ptx(function, signature):
    ptx, _ = numba.cuda.compile_ptx(function, signature, cc=(9, 0))
    assert ".entry" in ptx
    assert ".target sm_90" in ptx
    return ptx


@cache
def assembled(ptx, *options):
    """What the assembler and the linker report of one kernel's PTX."""
    from cuda.bindings import nvjitlink

    link = nvjitlink.create(3 + len(options), ["-arch=sm_90", "-verbose", "-Xptxas=-v", *options])
    try:
        nvjitlink.add_data(link, nvjitlink.InputType.PTX, ptx.encode(), len(ptx.encode()), "kernel")
        nvjitlink.complete(link)
        log = bytearray(nvjitlink.get_info_log_size(link))
        nvjitlink.get_info_log(link, log)
    finally:
        nvjitlink.destroy(link)
    return assembly_in(log.decode())


def assembly_in(log):
    """Reads what the assembler and the linker print of one kernel."""
    (entry,) = re.findall(r"Compiling entry function.*?Used [^\n]*", log, re.DOTALL)
    words = "stack frame", "spill stores", "spill loads"
    stack, stored, loaded = (sum(map(int, re.findall(rf"(\d+) bytes {what}", entry))) for what in words)
    (registers,) = re.findall(r"Used (\d+) registers", entry)
    (shared,) = re.findall(r"(\d+) bytes smem", log)
    return Assembly(int(registers), stack, stored + loaded, int(shared))


def integrator_kernels(
    name, averages, beta, parameters, by_proxy, precision="float64", surfaces=None, stabilised=False
):
    """The kernels of one system of ordinary differential equations."""
    program = generate(averages, beta, parameters, by_proxy, "cuda", precision, surfaces or {}, stabilised)
    module = load_module(program.source, f"ptx_{re.sub('[^a-z0-9]', '_', name.lower())}_{precision}")
    real = numba.from_dtype(np.dtype(precision))
    line, table, cube, tower, whole = real[::1], real[:, ::1], real[:, :, ::1], real[:, :, :, ::1], int64
    path = (table, table, whole[:, ::1], table, line, whole[:, :, ::1], cube, cube, cube, line)
    signatures = {
        "integrate_all": (cube, *path, tower, cube, whole[:, ::1], whole),
        "bisect_all": (table, table, whole[::1], line, *path, cube, table, whole[::1], table, whole, whole),
        "rates_all": (line, table, table, line, whole[:, :, ::1], cube, table, line, whole),
        "beta_all": (line, table, line, whole),
    }
    return [
        CudaKernel(f"{name}: {entry}", getattr(module, entry).py_func, (whole[::1], *signature), THREADS_PER_BLOCK)
        for entry, signature in signatures.items()
    ]


@cache
def made(source, *arguments):
    """The kernel that `source` makes; the same one for the same arguments, so that it is compiled once in a process."""
    return source(*arguments)


def particle_kernels(precision, with_shapes, with_reference, d=128, particles=256, centres=5):
    """The kernels of a particle simulation with all its centres in shared memory."""
    real = numba.from_dtype(np.dtype(precision))
    scalar = np.dtype(precision).type
    shape = block_shape(d, particles, centres, real.bitwidth // 8)
    row, table, cube = float64[::1], float64[:, ::1], float64[:, :, ::1]
    estimate = (cube, cube, real[:, :, ::1], cube, table, table, table, int64, int64, uint64, int64)
    forward = (*(cube, cube, real[:, :, ::1], cube, table, table, row, row), *(float64, int64, uint64, int64))
    moves = (cube, real[:, :, ::1], cube, table, float64, boolean)
    shapes = (cube, cube, table, table, cube, int64, float64, UniTuple(boolean, 2))
    kinds = {
        "estimate": (made(estimate_source, scalar, centres, shape, with_shapes, with_reference), estimate),
        "forward part": (made(add_forward_part_source, scalar, centres, shape, with_shapes), forward),
        "move means": (made(move_means_source, scalar, shape.threads), moves),
        "move shapes": (made(move_all_shapes_source), shapes),
    }
    return [CudaKernel(name, function, signature, shape.threads) for name, (function, signature) in kinds.items()]


def projected_kernels(precision, threads=128):
    """The kernels that carry projected particles between the span and the whole space."""
    scalar = np.dtype(precision).type
    table, cube = float64[:, ::1], float64[:, :, ::1]
    coordinates = numba.from_dtype(np.dtype(precision))[:, :, ::1]
    lift = (cube, cube, cube, cube, table, table, int64, int64, uint64, int64)
    return [
        CudaKernel("span means", made(span_means_source, scalar, threads), (cube, coordinates, cube), threads),
        CudaKernel("lift", made(lift_source, threads), lift, threads),
    ]


def covariant_kernels(precision, with_shapes, r, d=128, particles=256, centres=4):
    """The kernels of mixtures with covariances in r coordinates."""
    real = numba.from_dtype(np.dtype(precision))
    scalar = np.dtype(precision).type
    shape = covariant_block_shape(d, particles, centres, r, real.bitwidth // 8)
    table, cube, tower = float64[:, ::1], float64[:, :, ::1], float64[:, :, :, ::1]
    estimate = (cube, cube, tower, real[:, :, ::1], cube, table, table, tower, tower, table, table)
    moves = (tower, tower, table, tower, float64, boolean)
    kinds = {
        "estimate covariant": (
            made(estimate_covariant_source, scalar, centres, r, shape, with_shapes),
            (*estimate, int64, int64, uint64, int64),
        ),
        "move covariances": (made(move_covariances_source, r), moves),
    }
    return [CudaKernel(name, function, signature, shape.threads) for name, (function, signature) in kinds.items()]
