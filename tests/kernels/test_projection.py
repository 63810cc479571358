"""Particles in the span of the centres: runs have the law, not the paths, of runs with particles in all d dimensions.

Seeds are fixed. The level of each test is LEVEL for all numbers that it compares together (Bonferroni). The statistic
of two samples is the difference of their means in standard errors. Under the null hypothesis both samples have the same
law, and they have the same number of replicas. The difference is therefore symmetric and, with tens of thousands of
replicas, Gaussian far into its tails.
"""

import importlib.util
import itertools
import json
import math
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
from cuda_without_gpu import in_simulator, needs_compiler, needs_gpu
from hopper_kernels import assembled, projected_kernels, ptx_of
from scipy import stats

import annealvi
from annealvi.cli.program import main
from kernels.particles import projection
from kernels.particles import simulation as particles_module
from kernels.particles.adaptive_schedules import AdaAnn, simulate_adaptively
from kernels.particles.initial_means import uniform_sphere_means
from kernels.particles.random_stream import INITIAL_STATE, MAX_PARTICLES, ORTHOGONAL_NOISE
from kernels.particles.simulation import estimate_velocity, simulate_particles

LEVEL = 1e-3
REPLICAS = 40_000
PARTICLES = 3


def mixtures(targets, target_weights, target_scale, weights, scale):
    return {
        "target_means": np.array(targets, float),
        "target": {"weights": target_weights, "scales": [target_scale] * len(target_weights)},
        "proposal": {"weights": weights, "scales": [scale] * len(weights)},
    }


def rows(dimension, *starts):
    """Vectors of R^dimension with the given first coordinates; the others are zero."""
    return np.array([[*start, *[0.0] * (dimension - len(start))] for start in starts])


BIMODAL = mixtures(rows(8, [3], [-3]), [0.8, 0.2], 1.0, [0.5, 0.5], 1.0)
TWO_MODES = rows(9, [2, 0.5], [-1.5, 1, 0.3])
CASES = {
    "bimodal": (BIMODAL, rows(8, [0.9, 2, 2.05], [-0.6, 1, -1, 2.5]), "sphere"),
    "three components": (
        mixtures(TWO_MODES, [0.7, 0.3], 1.2, [0.5, 0.2, 0.3], 0.9),
        rows(9, [1, 0.8, 0, 1], [-0.6, 0.9, 0, 0, 1.5], [0.2, -1, 1, 0, 0.4]),
        "euclidean",
    ),
    "a mean on a mode, another between them": (
        mixtures(TWO_MODES, [0.7, 0.3], 1.2, [0.6, 0.4], 0.9),
        np.array([TWO_MODES[0], TWO_MODES.sum(axis=0) / 2]),
        "euclidean",
    ),
    "nothing outside": (
        mixtures(rows(4, [2, 0.5], [-1.5, 1]), [0.7, 0.3], 1.2, [0.6, 0.4], 0.9),
        rows(4, [1, 0.8, 0, 1], [-0.6, 0.9, 1.2]),
        "sphere",
    ),
    "fewer dimensions than centres": (
        mixtures([[2, 0.5], [-1.5, 1]], [0.7, 0.3], 1.2, [0.5, 0.2, 0.3], 0.9),
        np.array([[1, 0.8], [-0.6, 0.9], [0.2, -1]]),
        "euclidean",
    ),
}


def outside(problem, means):
    """Orthonormal directions that are orthogonal to the span of all centres, (d - r, d)."""
    centres = np.concatenate([problem["target_means"], means])
    _, sizes, directions = np.linalg.svd(centres)
    return directions[np.sum(sizes > 1e-10) :]


def final_means(case, projected, betas=(0.35,), **options):
    problem, means, manifold = CASES[case]
    options = {
        "particles": PARTICLES,
        "seed": 1 + projected,
        "dt": 0.7,
        "device": "cpu",
        "record_every": len(betas),
        **options,
    }
    start = np.repeat(means[None], REPLICAS, axis=0)
    run = simulate_particles(start, **problem, betas=betas, manifold=manifold, projected=projected, **options)
    assert run.projected == projected
    return run.final_means


def features(case, final):
    """The numbers that a test compares, (replicas, features).

    These are the overlaps of each replica, and two coordinates of each mean outside the span at the start.
    """
    problem, means, _ = CASES[case]
    replicas, L, _ = final.shape
    M, Q = final @ problem["target_means"].T, final @ final.transpose(0, 2, 1)
    coordinates = final @ outside(problem, means)[:2].T
    return np.concatenate(
        [M.reshape(replicas, -1), Q[:, *np.triu_indices(L)], coordinates.reshape(replicas, -1)], axis=1
    )


def discrepancy(here, there):
    """The largest difference of two samples' means and covariances in standard errors, and its bound."""
    differences = []
    for values in (here, there):
        centred = values - values.mean(0)
        first, second = np.triu_indices(values.shape[1])
        moments = np.concatenate([values, centred[:, first] * centred[:, second]], axis=1)
        differences.append((moments.mean(0), moments.var(0, ddof=1) / len(moments)))
    (mean, variance), (other_mean, other_variance) = differences
    error = np.sqrt(variance + other_variance)
    known = error > 1e-12  # on the sphere the lengths are constant to rounding
    assert np.abs(mean - other_mean)[~known].max(initial=0) < 1e-9
    statistic = np.max(np.abs(mean - other_mean)[known] / error[known])
    return statistic, stats.norm.isf(LEVEL / (2 * known.sum()))


@cache
def full_features(case, betas):
    """The features of the full simulation, which serve every comparison with a projected one."""
    return features(case, final_means(case, False, betas))


STEPS = [(0.35,), (0.2, 0.6, 0.4)]


@pytest.mark.parametrize("betas", STEPS, ids=["one step", "three steps"])
@pytest.mark.parametrize("case", CASES)
def test_overlaps_and_what_is_outside_have_the_law_of_the_full_simulation(case, betas):
    statistic, bound = discrepancy(full_features(case, betas), features(case, final_means(case, True, betas)))
    assert statistic < bound


def test_the_law_is_the_same_in_single_precision():
    full, projected = (features("bimodal", final_means("bimodal", p, precision="float32")) for p in (False, True))
    statistic, bound = discrepancy(full, projected)
    assert statistic < bound


MUTANTS = {
    "noise outside too large by sqrt(2)": ("math.sqrt(particles)", "math.sqrt(0.5 * particles)"),
    "the target pulls as at beta = 1": (
        "- beta * state.precisions[replica, proposals]",
        "- state.precisions[replica, proposals]",
    ),
    "the noise is left within the span": ("coordinates[row] - inner_product(basis[row], vector)", "coordinates[row]"),
    "one noise for all components": ("replica, step, i, ORTHOGONAL_NOISE", "replica, step, 0, ORTHOGONAL_NOISE"),
    "one noise for all steps": ("replica, step, i, ORTHOGONAL_NOISE", "replica, 0, i, ORTHOGONAL_NOISE"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_comparison_rejects_a_wrong_projection(mutant, monkeypatch, tmp_path):
    right, wrong = MUTANTS[mutant]
    source = Path(projection.__file__).read_text(encoding="utf-8")
    assert source.count(right) == 1
    path = tmp_path / "mutated_projection.py"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    specification = importlib.util.spec_from_file_location("mutated_projection", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(projection, "ProjectedCpuParticles", module.ProjectedCpuParticles)
    wrong_features = features("bimodal", final_means("bimodal", True, STEPS[1]))
    statistic, bound = discrepancy(full_features("bimodal", STEPS[1]), wrong_features)
    assert statistic > 2 * bound


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("case", ["bimodal", "three components", "a mean on a mode, another between them"])
def test_what_is_outside_has_the_variance_of_the_theory(case, projected):
    """One Euclidean step of dt = 1 is minus the gradient.

    Outside the span it is Gaussian with variance (w_i k sigma)^2 / n in each direction, where k = 1/sigma^2 -
    beta/sigma*^2. The sum of the squares therefore has a chi^2 law exactly, also in the full simulation.
    """
    problem, means, _ = CASES[case]
    beta, directions = 0.35, outside(*CASES[case][:2])
    assert len(directions) > 1
    start = np.repeat(means[None], REPLICAS, axis=0)
    options = {
        "particles": PARTICLES,
        "seed": 5 + projected,
        "manifold": "euclidean",
        "projected": projected,
        "device": "cpu",
    }
    steps = simulate_particles(start, **problem, betas=[beta], dt=1.0, **options).final_means - means
    scale = problem["proposal"]["scales"][0]
    pull = 1 / scale**2 - beta / problem["target"]["scales"][0] ** 2
    level = LEVEL / (2 * len(means))
    for weight, parts in zip(problem["proposal"]["weights"], (steps @ directions.T).transpose(1, 0, 2), strict=True):
        squares = np.sum((parts / (weight * pull * scale / math.sqrt(PARTICLES))) ** 2)
        assert stats.chi2.ppf(level, parts.size) < squares < stats.chi2.isf(level, parts.size)


@pytest.mark.parametrize("case", CASES)
def test_the_velocity_is_that_of_the_full_simulation(case):
    problem, means, manifold = CASES[case]
    options = {"beta": 0.35, "particles": 64, "replicas": 2000, "manifold": manifold, "device": "cpu"}
    full, found = (
        estimate_velocity(means, **problem, seed=8 + projected, projected=projected, **options)
        for projected in (False, True)
    )
    bound = stats.norm.isf(LEVEL / (2 * (found.means.size + found.M.size + found.Q.size)))
    for name in ("means", "M", "Q"):
        error = np.hypot(getattr(full, f"{name}_standard_error"), getattr(found, f"{name}_standard_error"))
        assert np.all(np.abs(getattr(full, name) - getattr(found, name)) <= bound * error + 1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_the_basis_is_orthonormal_and_holds_all_centres(case):
    problem, means, _ = CASES[case]
    targets, L = problem["target_means"], len(means)
    basis, coordinates = projection.basis_with_targets(targets, L)
    for i, mean in enumerate(means):
        projection.add_to_basis(basis, len(targets) + i, mean, coordinates[i])
    centres = np.concatenate([means, targets])
    np.testing.assert_allclose(coordinates @ basis, centres, rtol=0, atol=1e-14)
    kept = basis.any(axis=1)
    assert kept.sum() == np.linalg.matrix_rank(centres)
    np.testing.assert_allclose(basis @ basis.T, np.diag(kept.astype(float)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("apart", [1e-3, 1e-8, 1e-11, 1e-14, 0.0])
def test_the_basis_is_orthonormal_however_near_two_centres_are(apart):
    """The basis drops a remainder below 1e-12 of the length.

    For a larger one, the second round of subtractions removes the rounding errors of the first.
    """
    rng = np.random.default_rng(1)
    targets = rng.normal(size=(2, 50))
    mean = targets[0] + apart * rng.normal(size=50)
    basis, coordinates = projection.basis_with_targets(targets, 1)
    projection.add_to_basis(basis, 2, mean, coordinates[0])
    np.testing.assert_allclose(basis @ basis.T, np.diag([1.0, 1.0, float(apart > 1e-12)]), rtol=0, atol=1e-14)
    np.testing.assert_allclose(coordinates[0] @ basis, mean, rtol=0, atol=1e-11)


def test_results_depend_neither_on_threads_nor_on_chunks_nor_on_other_replicas(monkeypatch):
    means = uniform_sphere_means(5, 2, 8, 3.0, seed=6)

    def run(replicas=5, **options):
        options = {
            "betas": np.full(12, 0.5),
            "dt": 0.1,
            "particles": 9,
            "seed": 6,
            "record_every": 12,
            "device": "cpu",
            **options,
        }
        return simulate_particles(means[:replicas], **BIMODAL, projected=True, **options).final_means

    reference = run()
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        np.testing.assert_array_equal(run(), reference)
    np.testing.assert_array_equal(run(replicas=2), reference[:2])
    np.testing.assert_array_equal(run(record_every=5), reference)
    monkeypatch.setitem(particles_module.COORDINATES_PER_CALL, "cpu", 1.0)
    np.testing.assert_array_equal(run(), reference)
    assert np.abs(run(seed=7) - reference).min() > 0


def test_no_particle_has_the_number_of_the_noise_outside():
    """The rule of an adaptive schedule numbers its particles down from the largest number, MAX_PARTICLES - 1."""
    assert min(ORTHOGONAL_NOISE, INITIAL_STATE) >= MAX_PARTICLES
    assert ORTHOGONAL_NOISE != INITIAL_STATE


def results(device, d, particles):
    """Runs of two steps with one mean on a mode, a velocity, and a run under a rule."""
    problem = mixtures(rows(d, [3], [-1, 2], [0, 0, 1, 0, -2]), [0.5, 0.3, 0.2], 1.1, [0.6, 0.4], 0.9)
    means = uniform_sphere_means(2, 2, d, 3.0, seed=2**63 + 7)
    means[0, 1] = problem["target_means"][0]
    options = {"seed": 2**40, "device": device, "projected": True}
    found = {}
    for precision, manifold in [("float64", "sphere"), ("float64", "euclidean"), ("float32", "sphere")]:
        flow = {"dt": 0.3, "particles": particles, "manifold": manifold, "precision": precision}
        run = simulate_particles(means, **problem, betas=[0.2, 0.9], **flow, **options)
        found[f"{precision} {manifold}"] = run.final_means.tolist()
        found["device"] = run.device
    found["velocity"] = estimate_velocity(
        means[0], **problem, beta=0.5, particles=particles, replicas=2, **options
    ).means.tolist()
    rule = AdaAnn(tau=0.3, every=1, start_beta=0.1, particles=particles)
    adaptive = simulate_adaptively(means, **problem, rule=rule, dt=0.1, steps=2, particles=5, **options)
    found |= {"adaptive": adaptive.final_means.tolist(), "adaptive beta": adaptive.beta.tolist()}
    assert adaptive.projected
    return found


def assert_same_to_rounding(found, expected):
    for name, value in expected.items():
        if name != "device":
            # Single precision rounds coordinates by 2e-7.
            np.testing.assert_allclose(
                found[name], value, rtol=0, atol=1e-6 if "float32" in name else 1e-12, err_msg=name
            )


def test_simulated_cuda_kernels_agree_with_the_cpu():
    """Blocks have two threads, fewer than there are particles, coordinates, and blocks of four coordinates.

    Five particles make three rounds of sums, of which the last is not full. Threads that share no particle run in
    tests/kernels/test_particles_cuda.py, in the same kernel.
    """
    few_threads = "import kernels.particles.cuda.blocks as p; p.THREADS = (2,)"
    found = in_simulator("t.results('cuda', 13, 5)", "test_projection", before=few_threads)
    assert found["device"] == "cuda simulator"
    assert_same_to_rounding(found, results("cpu", 13, 5))


@needs_gpu
def test_gpu_agrees_with_the_cpu():
    found = results("cuda", 150, 131)
    assert found["device"].startswith("cuda: ")
    assert found == results("cuda", 150, 131)
    assert_same_to_rounding(found, results("cpu", 150, 131))


@needs_compiler
@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_kernels_compile_for_hopper_without_a_gpu(precision):
    for kernel in projected_kernels(precision):
        found = assembled(ptx_of(kernel))
        assert found.shared > 0
        assert found.spilled == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"target": {"weights": [0.8, 0.2], "scales": [1.0, 1.0 + 1e-15]}},
            "one scale in each mixture, and the target's differ: leave out projected=True",
        ),
        (
            {"proposal": {"weights": [0.5, 0.5], "scales": [1.0, 2.0]}},
            "one scale in each mixture, and the proposal's differ: leave out projected=True",
        ),
        ({"learn": ("means", "weights")}, "means alone, not means and weights: leave out projected=True"),
        ({"learn": ("scales",)}, "means alone, not scales: leave out projected=True"),
    ],
)
def test_what_has_another_law_is_refused(change, message):
    given = {
        **BIMODAL,
        "betas": [0.5],
        "dt": 0.1,
        "particles": 4,
        "seed": 0,
        "device": "cpu",
        "projected": True,
        **change,
    }
    with pytest.raises(ValueError, match=message) as caught:
        simulate_particles(np.ones((2, 2, 8)), **given)
    assert "\n" not in str(caught.value)


def test_replicas_may_differ_in_their_scale():
    proposal = {"weights": [0.5, 0.5], "scales": np.array([[1.0, 1.0], [2.0, 2.0]])}
    means = uniform_sphere_means(2, 2, 8, 3.0, seed=6)
    options = {"betas": [0.5], "dt": 0.1, "particles": 4, "seed": 0, "device": "cpu", "projected": True}
    both = simulate_particles(means, **{**BIMODAL, "proposal": proposal}, **options).final_means
    narrow = simulate_particles(means, **BIMODAL, **options).final_means
    np.testing.assert_array_equal(both[0], narrow[0])
    assert np.abs(both[1] - narrow[1]).max() > 1e-3


SHORT = [
    "--replicas",
    "3",
    "--particles",
    "4",
    "--t-end",
    "1",
    "--set",
    "schedule.kind=constant",
    "--set",
    "schedule.T0=2",
]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "two-scales"], "target.scales differ; leave out --projected"),
        (
            ["simulate", "bimodal", "--set", "proposal.scales=[1.0, 1.5]"],
            "proposal.scales differ; leave out --projected",
        ),
        (
            ["simulate", "learned-weights"],
            "flow.learn names means and weights, and it covers means alone; leave out --projected",
        ),
        (["collapse", "learned-scales", "--method", "particles"], "leave out --projected"),
        (["collapse", "two-scales", "--method", "ode,particles", "--n", "1000000000"], "leave out --projected"),
        (["collapse", "bimodal", "--method", "ode"], "no particles are asked for; add particles to --method"),
        (["collapse", "bimodal"], "no particles are asked for"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, arguments, words):
    assert main([*arguments, "--projected", "--json", "-"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("annealvi: --projected: ")
    assert words in err


@pytest.mark.parametrize(("command", "projected"), [*itertools.product(["simulate", "collapse"], [False, True])])
def test_the_result_says_whether_particles_were_projected(capsys, command, projected):
    arguments = [
        command,
        *SHORT,
        *(["--method", "particles"] if command == "collapse" else []),
        *(["--projected"] if projected else []),
    ]
    assert main([*arguments, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    found = found["particles"] if command == "collapse" else found
    assert found["projected"] is projected
    assert ("4 projected particles" in found["method"]) is projected


def test_a_rule_raises_the_temperatures_of_projected_particles(capsys):
    arguments = [
        "simulate",
        *SHORT[:4],
        "--set",
        "schedule.kind=adaann",
        "--set",
        "schedule.T0=3",
        "--set",
        "space.dimension=8",
    ]
    assert main([*arguments, "--projected", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["projected"] is True
    assert min(beta[-1] for beta in found["beta"]) == 1


def test_the_announced_cost_is_that_of_what_is_drawn():
    """10 steps of 3 replicas and 2 components draw 4 particles in 4 coordinates and a vector of 128.

    Without the projection they draw 4 particles in 128 coordinates.
    """
    session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=constant"]))
    options = {"replicas": 3, "particles": 4, "t_end": 1.0, "dt": 0.1, "max_cost": 1e-9, "device": "cpu"}
    for projected, draws in ((False, 60 * 4 * 128), (True, 60 * (4 * 4 + 128))):
        with pytest.raises(annealvi.BadInput, match=f"{draws:.1e} particle coordinates".replace("+", r"\+")):
            annealvi.simulate(session, projected=projected, **options)
    adaptive = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=adaann"]))
    with pytest.raises(annealvi.BadInput, match=f"{draws:.1e} particle coordinates".replace("+", r"\+")):
        annealvi.simulate(adaptive, projected=True, **options)


def test_integrated_paths_say_nothing_of_particles():
    session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=constant"]))
    assert "projected" not in annealvi.integrate(session, n=1, t_end=1.0, points=2).as_dict()
