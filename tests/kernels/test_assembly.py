"""Registers and spills of CUDA kernels are counted without a GPU."""

import pytest
from cuda_without_gpu import needs_compiler
from hopper_kernels import Assembly, assembled, particle_kernels, ptx_of


@needs_compiler
@pytest.mark.usefixtures("hopper")
def test_a_kernel_that_may_have_few_registers_spills():
    """The other tests expect no spills, so spills must be seen where there are any."""
    move_means = next(k for k in particle_kernels("float64", False, False) if k.name == "move means")
    ptx = ptx_of(move_means)
    free, bound = assembled(ptx), assembled(ptx, "-maxrregcount=24")
    assert free.registers > 24
    assert free.spilled == 0
    assert bound.registers <= 24
    assert bound.spilled > 0


@pytest.mark.quick
@pytest.mark.parametrize(
    ("registers", "shared", "threads", "expected"),
    [
        (32, 0, 256, 1.0),
        (33, 0, 256, 0.75),  # 40 registers a thread are taken, in units of 8: six blocks of 256
        (64, 0, 256, 0.5),
        (128, 0, 64, 0.25),
        (255, 0, 256, 0.125),
        (16, 0, 32, 0.5),  # at most 32 blocks
        (32, 100 * 1024, 256, 0.25),  # two blocks share 227 KiB
    ],
)
def test_occupancy_is_that_of_the_programming_guide(registers, shared, threads, expected):
    assert Assembly(registers, 0, 0, shared).occupancy(threads) == expected
