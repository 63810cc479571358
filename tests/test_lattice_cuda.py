"""Averages over several variables on CUDA: in Numba's simulator against the CPU's, and compiled to PTX; on a GPU where there is one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import sympy as sp
from lattice_probes import compiled, probe_system, random_numbers, softmax_averages

from kernels.codegen import generate
from kernels.device import resolve_device
from kernels.module_cache import load_module

ROOT = Path(__file__).resolve().parent.parent
CASES = {"one": (1, None), "two": (2, None), "chi": (0, 5), "both": (1, 5), "sampled": (4, None)}


def logarithm(shares, variables):
    return [sp.log(shares[0]) * shares[1], variables[0] * shares[0]]


def results(device, names):
    """Rates, nodes and a short path for every kind of group at a tolerance that the simulator can pay."""
    found = {}
    for name in names:
        averages, states = softmax_averages(*CASES[name], 2, extra=logarithm)
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
    from kernels import lattice_rule

    few = "import kernels.lattice_rule as r; r.FEWEST_POINTS = r.MOST_POINTS = 4"
    program = f"{few}; import json, test_lattice_cuda as t; print(json.dumps(t.results('cuda', list(t.CASES))))"
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    finished = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["device"] == "cuda simulator"
    monkeypatch.setattr(lattice_rule, "FEWEST_POINTS", 4)
    monkeypatch.setattr(lattice_rule, "MOST_POINTS", 4)
    assert_same_to_rounding(found, results("cpu", CASES))


@pytest.mark.skipif(numba.config.ENABLE_CUDASIM or resolve_device("auto").kind != "cuda", reason="needs an NVIDIA GPU")
def test_gpu_agrees_with_the_cpu():
    found = results("cuda", CASES)
    assert found["device"].startswith("cuda: ")
    assert_same_to_rounding(found, results("cpu", CASES))


@pytest.mark.skipif(numba.config.ENABLE_CUDASIM, reason="the simulator replaces the compiler")
@pytest.mark.parametrize("name", ["both", "sampled"])
def test_lattices_compile_for_hopper_without_a_gpu(name, monkeypatch):
    cuda = pytest.importorskip("numba.cuda")
    import numba.cuda.dispatcher

    class Hopper:
        compute_capability = (9, 0)

    # Numba asks the present device for its architecture when a kernel calls another function.
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", Hopper)
    averages, states = softmax_averages(*CASES[name], 3, extra=logarithm)
    module = load_module(generate(probe_system(averages, states), sp.S.One, (), {}, "cuda").source, "ptx_lattice")
    line, table, whole = numba.float64[::1], numba.float64[:, ::1], numba.int64
    signature = (line, table, line, line, whole[:, ::1], table, table, table)
    ptx, _ = cuda.compile_ptx(module.rates_all.py_func, signature, cc=(9, 0))
    assert ".entry" in ptx
    assert ".target sm_90" in ptx
