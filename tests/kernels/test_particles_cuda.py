"""The particles on CUDA: Numba's simulator agrees with the CPU, the kernels compile to PTX, and a GPU runs them."""

import re
import sys
from types import SimpleNamespace

import numba
import numba.cuda
import numpy as np
import pytest
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from hopper_kernels import assembled, particle_kernels, ptx_of

from annealvi.cli.program import main
from kernels.machine import device
from kernels.machine.device import DeviceUnavailable, resolve_device
from kernels.particles.adaptive_schedules import AdaAnn, simulate_adaptively
from kernels.particles.initial_means import uniform_sphere_means
from kernels.particles.objective import Objective
from kernels.particles.simulation import estimate_velocity, simulate_particles

PROBLEM = {
    "target_means": [[3.0, 0, 0, 0, 0], [-1, 2, 0, 0, 0], [0, 0, 1, 0, -2]],
    "target": {"weights": [0.5, 0.3, 0.2], "scales": [1.0, 0.7, 1.4]},
    "proposal": {"weights": [0.6, 0.4], "scales": [1.2, 0.8]},
}
ALL = ("means", "weights", "scales")
CASES = [("float64", "sphere"), ("float64", "euclidean"), ("float32", "sphere")]


def results(device, particles):
    """Runs of two steps, a velocity, and a run under a rule; the dimension is no multiple of four.

    particles: their number in the runs of two steps, more than a block has threads in all runs but one.
    """
    means = uniform_sphere_means(2, 2, 5, 3.0, seed=2**63 + 7)
    found = {}
    for precision, manifold in CASES:
        run = simulate_particles(
            means,
            **PROBLEM,
            betas=[0.2, 0.9],
            dt=0.3,
            particles=particles,
            seed=2**40,
            manifold=manifold,
            precision=precision,
            device=device,
        )
        found[f"{precision} {manifold}"] = run.final_means.tolist()
        found["device"] = run.device
    for precision, manifold, count in [("float64", "euclidean", particles), ("float32", "sphere", 3)]:
        run = simulate_particles(
            means,
            **PROBLEM,
            betas=[0.2, 0.9],
            dt=0.1,
            particles=count,
            seed=2**40,
            manifold=manifold,
            learn=ALL,
            precision=precision,
            device=device,
        )
        final = {"means": run.final_means, **{name: values[-1] for name, values in run.parameters.items()}}
        found |= {f"{precision} {manifold} learned {name}": values.tolist() for name, values in final.items()}
    learned = estimate_velocity(
        means[0], **PROBLEM, beta=0.5, particles=particles, replicas=2, seed=1, learn=ALL, device=device
    )
    found |= {f"velocity of {name}": rates.tolist() for name, rates in learned.parameters.items()}
    rule = AdaAnn(tau=0.3, every=1, start_beta=0.1, particles=particles)
    adaptive = simulate_adaptively(
        means, **PROBLEM, rule=rule, dt=0.1, steps=2, particles=5, seed=4, learn=("weights", "scales"), device=device
    )
    found |= {f"adaptive {name}": values.tolist() for name, values in adaptive.parameters.items()}
    found["adaptive beta"] = adaptive.beta.tolist()
    np.testing.assert_array_equal(adaptive.final_means, means)
    velocity = estimate_velocity(means[0], **PROBLEM, beta=0.5, particles=particles, replicas=2, seed=1, device=device)
    found["velocity"] = velocity.means.tolist()
    return found


OBJECTIVES = {
    "reference": Objective(reference_scale=1.6),
    "forward": Objective(1.0),
    "mixed with a reference": Objective(0.4, 1.6),
}


def results_of_objectives(device, particles):
    """Runs of two steps under each objective, so that the second forgets the estimates of the first."""
    means = uniform_sphere_means(2, 2, 5, 3.0, seed=2**63 + 7)
    found = {}
    cases = [
        ("reference", "float64", ALL),
        ("forward", "float64", ALL),
        ("mixed with a reference", "float32", ALL),
        ("mixed with a reference", "float64", ("means",)),
    ]
    for name, precision, learn in cases:
        run = simulate_particles(
            means,
            **PROBLEM,
            betas=[0.2, 0.7],
            dt=0.1,
            particles=particles,
            seed=2**40,
            manifold="euclidean",
            learn=learn,
            precision=precision,
            device=device,
            objective=OBJECTIVES[name],
        )
        final = {"means": run.final_means, **{key: values[-1] for key, values in run.parameters.items()}}
        found |= {f"{name} {precision} {key}": values.tolist() for key, values in final.items()}
    return found


def assert_same_to_rounding(found, expected):
    for name, value in expected.items():
        if name != "device":
            # Single precision rounds x by 2e-7, and the gradients average the differences over the particles.
            np.testing.assert_allclose(
                found[name], value, rtol=0, atol=1e-6 if "float32" in name else 1e-12, err_msg=name
            )


def test_simulated_cuda_kernels_agree_with_the_cpu():
    """Blocks have four threads, so that 11 particles make three rounds of sums, of which the last is not full."""
    few_threads = "import kernels.particles.cuda.blocks as p; p.THREADS = (4,)"
    found = in_simulator("t.results('cuda', 11)", "test_particles_cuda", before=few_threads)
    assert found["device"] == "cuda simulator"
    assert_same_to_rounding(found, results("cpu", 11))


def test_simulated_kernels_of_other_objectives_agree_with_the_cpu():
    few_threads = "import kernels.particles.cuda.blocks as p; p.THREADS = (4,)"
    found = in_simulator("t.results_of_objectives('cuda', 7)", "test_particles_cuda", before=few_threads)
    assert_same_to_rounding(found, results_of_objectives("cpu", 7))


@needs_gpu
def test_gpu_agrees_with_the_cpu_under_other_objectives():
    found = results_of_objectives("cuda", 131)
    assert found == results_of_objectives("cuda", 131)
    assert_same_to_rounding(found, results_of_objectives("cpu", 131))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = results("cuda", 131)
    assert found["device"].startswith("cuda: ")
    assert found == results("cuda", 131)
    assert_same_to_rounding(found, results("cpu", 131))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(("with_shapes", "with_reference"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_kernels_compile_for_hopper_without_a_gpu(precision, with_shapes, with_reference):
    for kernel in particle_kernels(precision, with_shapes, with_reference):
        ptx = ptx_of(kernel)
        found = assembled(ptx)
        assert (found.shared > 0) == (kernel.name != "move shapes")
        assert found.spilled == 0
        assert not re.search(r"(div|sqrt)\.approx", ptx)


def test_auto_never_chooses_the_simulator(monkeypatch):
    monkeypatch.setattr(numba.config, "ENABLE_CUDASIM", True)
    assert resolve_device("auto").kind == "cpu"
    simulator = resolve_device("cuda")
    assert simulator.simulated
    assert simulator.name == "cuda simulator"


def test_missing_cuda_component_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(numba.config, "ENABLE_CUDASIM", False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    monkeypatch.delattr(numba, "cuda", raising=False)
    with pytest.raises(DeviceUnavailable, match=r'cannot be imported.*pip install "annealvi\[cuda\]".*driver'):
        resolve_device("cuda")
    assert resolve_device("auto").kind == "cpu"


class Launched:
    """Stands for a kernel on a GPU that the machine does not have. does: what the kernel does to its array."""

    def __init__(self, does):
        self.does = does

    def __getitem__(self, grid):
        return self.does


class LinkerError(RuntimeError):
    """An exception with the name of Numba's."""


def fail(*_):
    raise LinkerError("[222] Call to cuLinkAddData results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION\nptxas ...")


GPUS = {
    "computes": (lambda x: np.exp(x, out=x), ""),
    "has too old a driver": (
        fail,
        "(LinkerError: [222] Call to cuLinkAddData results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION): update",
    ),
    "computes something else": (lambda x: None, "(it computes wrong numbers): update"),
}


@pytest.mark.parametrize("gpu", GPUS)
def test_a_gpu_is_tried_before_it_is_used(gpu, monkeypatch, capfd):
    """The trial takes place once in a process; a GPU that cannot be used is reported with a remedy."""
    does, said = GPUS[gpu]
    tries = []
    monkeypatch.setattr(numba.config, "ENABLE_CUDASIM", False)
    monkeypatch.setattr(numba.cuda, "is_available", lambda: True)
    monkeypatch.setattr(numba.cuda, "get_current_device", lambda: SimpleNamespace(name=b"NVIDIA H0"))
    monkeypatch.setattr(numba.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(numba.cuda, "jit", lambda function: tries.append(function) or Launched(does))
    forget()
    try:
        assert [resolve_device("auto").kind for _ in range(3)] == ["cuda" if gpu == "computes" else "cpu"] * 3
        assert len(tries) == 1
        told = capfd.readouterr().err
        assert told.count("\n") == (gpu != "computes")
        assert said in told
        status = main(["integrate", "--n", "2", "--t-end", "1", "--points", "2", "--device", "cuda"]) if said else 3
        err = capfd.readouterr().err
        assert (status, err.count("\n")) == (3, 1 if said else 0)
        assert said in err
    finally:
        forget()


@pytest.mark.parametrize(
    ("error", "there"),
    [
        ("CUDA driver library cannot be found.", False),
        ("[100] Call to cuInit results in CUDA_ERROR_NO_DEVICE", False),
        ("[803] Call to cuInit results in CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", True),
        (None, True),
    ],
)
def test_auto_is_silent_only_where_there_is_no_gpu(error, there, monkeypatch, capfd):
    """error: that of the driver; None where the driver works and the toolkit is missing."""
    monkeypatch.setattr(numba.config, "ENABLE_CUDASIM", False)
    monkeypatch.setattr(numba.cuda, "is_available", lambda: False)
    monkeypatch.setattr(numba.cuda.cudadrv.driver, "driver", SimpleNamespace(initialization_error=error))
    forget()
    assert resolve_device("auto").kind == "cpu"
    told = capfd.readouterr().err
    assert told.count("\n") == there
    assert not there or (error or "the CUDA toolkit's compiler is not found") in told
    with pytest.raises(DeviceUnavailable, match="update the NVIDIA driver" if there else r"annealvi\[cuda\]"):
        resolve_device("cuda")
    forget()


def forget():
    device._tried.cache_clear()
    device.tell_of_fallback.cache_clear()


@pytest.mark.parametrize("d", [1, 5, 128, 700, 1024])
@pytest.mark.parametrize("centres", [2, 4, 16, 60])
@pytest.mark.parametrize("real_bytes", [4, 8])
def test_blocks_of_threads_cover_every_coordinate(d, centres, real_bytes):
    from kernels.particles.cuda.blocks import block_shape

    shape = block_shape(d, 256, centres, real_bytes)
    assert shape.span * shape.passes >= (d + 3) // 4 > shape.span * (shape.passes - 1)
    assert shape.groups * shape.span <= shape.threads in (32, 64, 128)
    assert 0 < shape.tile <= shape.threads
    assert shape.tile % shape.groups == 0
    assert block_shape(d, 1, 2, 4).threads <= shape.threads or centres == 60


def test_too_many_centres_for_shared_memory_are_refused():
    from kernels.particles.cuda.blocks import block_shape

    with pytest.raises(ValueError, match="1000 mixture components"):
        block_shape(128, 256, 1000, 8)
