"""Covariances on CUDA: Numba's simulator agrees with the CPU, the kernels compile to PTX, and a GPU runs them."""

import re

import numpy as np
import pytest
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from hopper_kernels import assembled, covariant_kernels, ptx_of

from kernels.particles.covariances import Covariances
from kernels.particles.initial_means import uniform_sphere_means
from kernels.particles.simulation import estimate_velocity, simulate_particles

PROBLEM = {
    "target_means": [[3.0, 0, 0, 0, 0], [-1, 2, 0, 0, 0], [0, 0, 1, 0, -2]],
    "target": {"weights": [0.5, 0.3, 0.2], "scales": [1.0, 0.7, 1.4]},
    "proposal": {"weights": [0.6, 0.4], "scales": [1.2, 0.8]},
}
ALL = ("means", "weights", "scales", "covariances")
CASES = [
    ("float64", 2, "log", ALL, "sphere"),
    ("float64", 5, "bures-wasserstein", ALL, "euclidean"),
    ("float64", 1, "log", ("covariances",), "euclidean"),
    ("float32", 3, "log", ALL, "sphere"),
]


def results(device, particles):
    """Runs of two steps and a velocity; the dimension is no multiple of four, and r is above and below four."""
    means, found = uniform_sphere_means(2, 2, 5, 2.0, seed=11), {}
    options = {"particles": particles, "seed": 2**40, "device": device}
    for precision, r, metric, learn, manifold in CASES:
        roots = np.random.default_rng(r).normal(size=(7, r, r)) / 2
        matrices = roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(r)
        covariances = Covariances(matrices[:3], matrices[3:].reshape(2, 2, r, r), metric)
        given = {**PROBLEM, **options, "manifold": manifold, "learn": learn, "precision": precision}
        run = simulate_particles(means, **given, betas=[0.2, 0.9], dt=0.1, covariances=covariances)
        one = Covariances(matrices[:3], matrices[3:5], metric)
        velocity = estimate_velocity(means[0], **given, beta=0.5, replicas=2, covariances=one)
        parts = {"means": run.final_means, "X": run.X, "covariances": run.covariances, **run.parameters}
        parts |= {
            "velocity": velocity.means,
            "rate": velocity.covariances,
            "scale's rate": velocity.parameters["scales"],
        }
        found |= {f"{precision} {r} {name}": part.tolist() for name, part in parts.items()}
    return found


def assert_same_to_rounding(found, expected):
    for name, value in expected.items():
        # Single precision rounds x by 2e-7, and the estimates average the differences over the particles.
        tolerance = 1e-5 if "float32" in name else 1e-12
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def test_simulated_cuda_kernels_agree_with_the_cpu():
    """Blocks have four threads, so that 7 particles make two rounds of sums, of which the last is not full."""
    few_threads = "import kernels.particles.cuda.blocks as p; p.THREADS = (4,)"
    found = in_simulator("t.results('cuda', 7)", "test_particles_covariances_cuda", before=few_threads)
    assert_same_to_rounding(found, results("cpu", 7))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = results("cuda", 131)
    assert found == results("cuda", 131)
    assert_same_to_rounding(found, results("cpu", 131))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("with_shapes", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_kernels_compile_for_hopper_without_a_gpu(precision, with_shapes, r):
    for kernel in covariant_kernels(precision, with_shapes, r):
        ptx = ptx_of(kernel)
        found = assembled(ptx)
        assert (found.shared > 0) == (kernel.name == "estimate covariant")
        assert found.spilled == 0
        assert not re.search(r"(div|sqrt)\.approx", ptx)


def test_too_many_centres_for_shared_memory_are_refused():
    from kernels.particles.cuda.covariances import covariant_block_shape

    assert covariant_block_shape(8, 256, 6, 3, 8).threads == 128
    with pytest.raises(ValueError, match="use device='cpu'"):
        covariant_block_shape(128, 256, 20, 16, 8)
