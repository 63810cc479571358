"""Averages over several variables on CUDA: Numba's simulator agrees with the CPU, the kernels compile to PTX, and a GPU
runs them."""

import numpy as np
import pytest
import sympy as sp
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from hopper_kernels import assembled, integrator_kernels, ptx_of
from lattice_probes import compiled, probe_system, random_numbers, softmax_averages

from kernels.lower.analysis import analyse_averages

CASES = {"one": (1, None), "two": (2, None), "chi": (0, 5), "both": (1, 5), "sampled": (4, None), "crossed": (2, None)}


def logarithm(shares, variables):
    return [sp.log(shares[0]) * shares[1], variables[0] * shares[0]]


def results(device, names):
    """Rates, nodes and a short path for every kind of group, at a tolerance that the simulator can reach quickly."""
    found = {}
    for name in names:
        averages, states = softmax_averages(*CASES[name], 2, extra=logarithm, crossed=name == "crossed")
        kernel = compiled(averages, states, 1e-2, 0.3, device)
        numbers = random_numbers(kernel, 2, 0.7, 0.1)
        found[name] = kernel.rhs_at_beta(1.0, numbers).tolist()
        found[f"{name} nodes"] = kernel.nodes(numbers).tolist()
        if name == "two":
            run = kernel.integrate(numbers, [0.0, 0.1], fixed_steps=1)
            found["path"] = run.y.tolist()
            found["device"] = run.device
    return found


def assert_same_to_rounding(found, expected):
    for name, value in expected.items():
        if name != "device":
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_simulated_cuda_agrees_with_the_cpu(monkeypatch):
    from kernels.averages import lattice_rule

    few = "import kernels.averages.lattice_rule as r; r.FEWEST_POINTS = r.MOST_POINTS = 4"
    found = in_simulator("t.results('cuda', list(t.CASES))", "test_lattice_cuda", few)
    assert found["device"] == "cuda simulator"
    monkeypatch.setattr(lattice_rule, "FEWEST_POINTS", 4)
    monkeypatch.setattr(lattice_rule, "MOST_POINTS", 4)
    assert_same_to_rounding(found, results("cpu", CASES))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = results("cuda", CASES)
    assert found["device"].startswith("cuda: ")
    assert_same_to_rounding(found, results("cpu", CASES))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("name", ["both", "sampled", "crossed"])
def test_lattices_compile_for_hopper_without_a_gpu(name):
    averages, states = softmax_averages(*CASES[name], 3, extra=logarithm, crossed=name == "crossed")
    system = analyse_averages(probe_system(averages, states))
    (rates,) = (k for k in integrator_kernels(name, system, sp.S.One, (), {}) if "rates_all" in k.name)
    assert assembled(ptx_of(rates)).spilled == 0
