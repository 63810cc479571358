"""The ODE kernels on CUDA: Numba's simulator agrees with the CPU, the kernels compile to PTX, and a GPU runs them."""

import numpy as np
import pytest
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from handtyped import (
    T0,
    VALUES,
    bimodal_system,
    escaping_system,
    exponential_beta,
    hold_beta,
    states_of_unit_vectors,
    t0,
)
from hopper_kernels import assembled, integrator_kernels, ptx_of

from kernels.integrate.errors import DomainError
from kernels.integrate.kernel import compile_system
from kernels.lower.analysis import analyse_averages

STATES = states_of_unit_vectors(3, 4, 1)
CASES = {
    "proxy": {},
    "quadrature": {"expectations": "quadrature", "tolerance": 1e-4},
    "float32": {"precision": "float32"},
}


def results(device):
    """A run with a jump between two outputs, for each lowering and precision, a velocity, and a failure's message."""
    found = {}
    for name, options in CASES.items():
        kernel = compile_system(
            bimodal_system(),
            hold_beta(),
            (T0, t0),
            {**VALUES, T0: 4.0, t0: 0.5},
            breakpoints=(t0,),
            device=device,
            **options,
        )
        loose = {"rtol": 1e-5, "atol": 1e-6}
        run = kernel.integrate(STATES, [0.0, 1.0], **loose)
        found[name] = run.y.tolist()
        if name != "float32":  # in single precision rounding decides whether one more step is needed
            found[f"{name} steps"] = run.steps.tolist()
        found[f"{name} rhs"] = kernel.rhs(0.2, STATES).tolist()
        found["device"] = run.device
    escaping = compile_system(
        escaping_system(), exponential_beta(), (T0, t0), {"a": 0.1, "b": 0.1, "c": 1.0, T0: 1.0, t0: 1.0}, device=device
    )
    try:
        escaping.integrate([[0.0, -0.1, 0.0], [0.1, 0.1, -0.9]], [0.0, 5.0])
    except DomainError as error:
        found["failure"] = [error.trajectory, error.time, *error.state.tolist()]
    return found


def assert_same_to_rounding(found, expected):
    """Fused multiply-adds and another libm cause rounding differences, of which about a hundred accumulate."""
    for name, value in expected.items():
        if name == "device":
            continue
        bound = 2e-5 if "float32" in name else 1e-11
        np.testing.assert_allclose(found[name], value, rtol=0, atol=bound, err_msg=name)


def test_simulated_cuda_agrees_with_the_cpu():
    found = in_simulator("t.results('cuda')", "test_integrator_cuda")
    assert found["device"] == "cuda simulator"
    assert found["failure"][0] == 1
    assert_same_to_rounding(found, results("cpu"))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = results("cuda")
    assert found["device"].startswith("cuda: ")
    assert found == results("cuda")
    assert_same_to_rounding(found, results("cpu"))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("proxies", [True, False])
def test_kernels_compile_for_hopper_without_a_gpu(precision, proxies):
    """The module loads without a GPU, since its decorators are lazy; single precision uses no double at all."""
    averages = analyse_averages(bimodal_system())
    by_proxy = {0: proxies, 1: proxies}
    for kernel in integrator_kernels("bimodal", averages, exponential_beta(), (T0, t0), by_proxy, precision):
        ptx = ptx_of(kernel)
        assert (".f64" in ptx) == (precision == "float64"), (
            f"{kernel.name}: {[line for line in ptx.splitlines() if '.f64' in line][:5]}"
        )
        assert assembled(ptx).spilled == 0
