"""Covariances in the particle simulation: the KL's gradient on a grid, closed forms, and runs without covariances.

Seeds are fixed. A comparison uses Student's t at a level of 1e-3, divided among all its numbers.
"""

import numba
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import t as student

from kernels.particles.adaptive_schedules import AdaAnn, simulate_adaptively
from kernels.particles.covariances import Covariances
from kernels.particles.kl_grid import Mixture, kl_gradient, rates
from kernels.particles.objective import Objective
from kernels.particles.runs import extrapolate_step
from kernels.particles.simulation import DivergenceError, estimate_velocity, simulate_particles

ALL = ("means", "weights", "scales", "covariances")
METRICS = ("log", "bures-wasserstein")
REPLICAS = 64
MEANS = np.array([[1.0, 0.8, -0.2, 0.3, 0.1], [-0.6, 0.9, 0.5, -0.4, 0.2]])
TARGET_MEANS = np.array([[2.0, 0.5, 0.3, 0.0, 0.0], [-1.5, 1.0, -0.4, 0.0, 0.0]])
MIXTURES = {
    "target": {"weights": [0.7, 0.3], "scales": [1.0, 0.7]},
    "proposal": {"weights": np.array([0.6, 0.4]), "scales": np.array([1.2, 0.8])},
}


def random_covariances(seed, count, r):
    """Covariances with standard deviations from 0.7 to 1.3 along random directions."""
    generator = np.random.default_rng(seed)
    turns = np.linalg.qr(generator.normal(size=(count, r, r)))[0]
    return turns * generator.uniform(0.7, 1.3, (count, 1, r)) ** 2 @ turns.transpose(0, 2, 1)


def problem(d, r, metric="log", seed=0):
    """The arguments of a run in d dimensions with covariances in r of them."""
    covariances = Covariances(random_covariances(seed, 2, r), random_covariances(seed + 1, 2, r), metric)
    return {"target_means": TARGET_MEANS[:, :d], **MIXTURES, "covariances": covariances, "device": "cpu"}


def bound(numbers, replicas=REPLICAS):
    return float(student.isf(0.5e-3 / numbers, replicas - 1))


def flat(means, parameters, covariances):
    """Velocities, or their errors, as one vector: means, weights, scales, covariances."""
    return np.concatenate([np.ravel(part) for part in (means, *parameters.values(), covariances)])


def by_grid(means, arguments, beta, tolerance=1e-6):
    """The same velocities from the gradient on the grid."""
    covariances = arguments["covariances"]
    q = Mixture(means, **arguments["proposal"], covariances=covariances.proposal)
    p = Mixture(arguments["target_means"], **arguments["target"], covariances=covariances.target)
    gradient = kl_gradient(q, p, beta, tolerance)
    found = rates(q, gradient, covariances.metric)
    return flat(-gradient.means, {name: found[name] for name in ("weights", "scales")}, found["covariances"])


CASES = [
    (1, 1, "float64"),
    (2, 1, "float64"),
    (2, 2, "float32"),
    (3, 1, "float64"),
    (3, 2, "float32"),
    (3, 3, "float64"),
]


@pytest.mark.parametrize(("d", "r", "precision"), CASES)
@pytest.mark.parametrize("metric", METRICS)
def test_velocities_descend_the_kl(d, r, precision, metric):
    means, arguments = MEANS[:, :d], problem(d, r, metric, seed=10 * d + r)
    estimate = estimate_velocity(
        means,
        **arguments,
        beta=0.6,
        particles=4096,
        replicas=REPLICAS,
        seed=d,
        manifold="euclidean",
        learn=ALL,
        precision=precision,
    )
    velocity = flat(estimate.means, estimate.parameters, estimate.covariances)
    error = flat(estimate.means_standard_error, estimate.parameters_standard_error, estimate.covariances_standard_error)
    rests = slice(means.size + 2, means.size + 4) if r == d else slice(0)
    np.testing.assert_array_equal(velocity[rests], 0)
    error[rests] = 1.0
    expected = by_grid(means, arguments, 0.6, 1e-5)
    assert np.max(np.abs(velocity - expected) / error) < bound(velocity.size)
    assert np.max(error[means.size :][error[means.size :] < 1]) < 8e-3
    np.testing.assert_array_equal(estimate.X, estimate.means[:, :r])
    np.testing.assert_array_equal(estimate.X_standard_error, estimate.means_standard_error[:, :r])
    colder = by_grid(means, arguments, 1.2, 1e-5)[means.size + 4 :]
    assert np.max(np.abs(velocity[means.size + 4 :] - colder) / error[means.size + 4 :]) > 10


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
@pytest.mark.parametrize(("r", "precision"), [(1, "float64"), (3, "float64"), (5, "float64"), (3, "float32")])
def test_covariances_of_one_scale_give_the_isotropic_run(r, precision, manifold):
    """The particles' normals are the same, so that the two runs are, to rounding; outside, r = 3 leaves two scales."""
    starts = np.repeat(MEANS[None], 3, axis=0)
    isotropic = {"target_means": TARGET_MEANS, **MIXTURES, "device": "cpu", "manifold": manifold}
    target, proposal = (
        np.square(MIXTURES[name]["scales"])[:, None, None] * np.eye(r) for name in ("target", "proposal")
    )
    options = {"betas": np.linspace(0.2, 1.0, 30), "dt": 0.1, "particles": 37, "seed": 5, "precision": precision}
    learn, same = ("means", "weights"), Covariances(target, proposal)
    plain = simulate_particles(starts, **isotropic, **options, learn=learn)
    found = simulate_particles(starts, **isotropic, **options, learn=learn, covariances=same)
    # Single precision rounds what the two runs compute in different ways; double precision resolves much more.
    tolerance = 1e-5 if precision == "float32" else 1e-12
    np.testing.assert_allclose(found.final_means, plain.final_means, atol=tolerance)
    np.testing.assert_allclose(found.parameters["weights"], plain.parameters["weights"], atol=tolerance)
    np.testing.assert_array_equal(found.X[-1], found.final_means[..., :r])
    np.testing.assert_allclose(found.covariances, np.broadcast_to(proposal, found.covariances.shape), rtol=1e-14)
    assert plain.X is plain.covariances is None

    velocity = {"beta": 0.4, "particles": 50, "replicas": 2, "seed": 6, "precision": precision}
    before = estimate_velocity(MEANS, **isotropic, **velocity, learn=("scales",))
    after = estimate_velocity(MEANS, **isotropic, **velocity, learn=("scales", "covariances"), covariances=same)
    scales = MIXTURES["proposal"]["scales"]
    # The metric "log" gives dC/dt = -4 sigma^4 G, and d sigma/dt = -2 sigma^3 tr G for the r coordinates together.
    inside = np.trace(after.covariances, axis1=1, axis2=2) / (2 * scales)
    np.testing.assert_allclose(inside + after.parameters["scales"], before.parameters["scales"], atol=10 * tolerance)


def gaussians(seed, metric, outside=2):
    """One Gaussian each, with covariances in two coordinates, which commute where the metric needs it."""
    start, target = random_covariances(seed, 2, 2)
    if metric == "bures-wasserstein":
        _, turn = np.linalg.eigh(target)
        start = turn @ np.diag([0.5, 1.9]) @ turn.T
    mixtures = {
        "target_means": np.array([[1.0, -0.5, *[0.0] * outside]]),
        "target": {"weights": [1.0], "scales": [0.9]},
        "proposal": {"weights": [1.0], "scales": [1.3]},
        "covariances": Covariances(target[None], start[None], metric),
    }
    return np.array([[-0.4, 0.6, *[0.3] * outside]]), mixtures


def exact_covariance(t, start, target, beta, metric):
    """The solution of dC/dt = 2 (C - beta C S^-1 C), or of dC/dt = 2 (1 - beta C S^-1) where C and S commute."""
    tempered = beta * np.linalg.inv(target)
    if metric == "log":
        return np.linalg.inv(tempered + np.exp(-2 * t) * (np.linalg.inv(start) - tempered))
    limit = np.linalg.inv(tempered)
    return limit + expm(-2 * t * tempered) @ (start - limit)


@pytest.mark.parametrize("metric", METRICS)
def test_runs_of_one_gaussian_converge_to_the_closed_form_with_the_step(metric):
    """What is left of the extrapolation is of second order, at most a quarter of the finer run's bias here."""
    means, mixtures = gaussians(3, metric)
    beta, dt = 0.7, 0.1
    runs = [
        simulate_particles(
            np.repeat(means[None], 4000, axis=0),
            **mixtures,
            betas=np.full(10 * halvings, beta),
            dt=dt / halvings,
            particles=32,
            seed=halvings,
            manifold="euclidean",
            learn=("means", "covariances"),
            record_every=5 * halvings,
            device="cpu",
        )
        for halvings in (1, 2)
    ]
    both = extrapolate_step(*runs)
    covariances = mixtures["covariances"]
    start, target = covariances.proposal[0], covariances.target[0]
    exact = np.array([exact_covariance(t, start, target, beta, metric) for t in both.t])[:, None]
    nu = mixtures["target_means"][0, :2]
    pull = beta * np.linalg.inv(target)
    path = np.array([nu + expm(-t * pull) @ (means[0, :2] - nu) for t in both.t])[:, None]
    for name, expected in (("covariances", exact), ("X", path)):
        found, error, bias = (getattr(both, name + part)[1:] for part in ("", "_standard_error", "_bias"))
        excess = np.abs(found - expected[1:]) - 0.25 * np.abs(bias)
        assert np.all(excess < bound(found.size, 4000) * error)
        assert np.max(np.abs(bias) / error) > 5
    assert both.until(2).covariances.shape == (2, 1, 2, 2)
    np.testing.assert_allclose(both.covariances + both.covariances_bias, runs[1].covariances.mean(1))


@pytest.mark.parametrize("metric", METRICS)
def test_a_mixture_with_everything_learned_ends_at_the_target(metric):
    """KL = 0 is a fixed point without noise, and attracts a start with one component at each mode."""
    arguments = problem(3, 2, metric, seed=4)
    run = simulate_particles(
        MEANS[None, :, :3],
        **arguments,
        betas=np.ones(5000),
        dt=0.1,
        particles=32,
        seed=6,
        manifold="euclidean",
        learn=ALL,
        record_every=5000,
    )
    np.testing.assert_allclose(run.final_means[0], arguments["target_means"], atol=1e-6)
    np.testing.assert_allclose(run.covariances[-1, 0], arguments["covariances"].target, atol=1e-6)
    np.testing.assert_allclose(run.parameters["weights"][-1][0], arguments["target"]["weights"], atol=1e-6)
    np.testing.assert_allclose(run.parameters["scales"][-1][0], arguments["target"]["scales"], atol=1e-6)


def test_the_log_metric_knows_no_unit_of_length_and_no_direction():
    """Under x -> T x every covariance of the run becomes T C T^T; a triangular T keeps the order of the normals."""
    d = r = 3
    arguments = problem(d, r, seed=8)
    turn = np.array([[2.0, 0, 0], [0.7, 0.5, 0], [-1.1, 0.4, 3.0]])
    given = arguments["covariances"]
    there = Covariances(turn @ given.target @ turn.T, turn @ given.proposal @ turn.T)
    options = {"betas": np.full(25, 0.8), "dt": 0.1, "particles": 24, "seed": 2, "learn": ("covariances",)}
    here = simulate_particles(MEANS[None, :, :d], **arguments, **options)
    turned = simulate_particles(
        MEANS[None, :, :d] @ turn.T,
        **{**arguments, "target_means": arguments["target_means"] @ turn.T, "covariances": there},
        **options,
    )
    np.testing.assert_allclose(turned.covariances, turn @ here.covariances @ turn.T, rtol=1e-10, atol=1e-10)
    assert np.abs(here.covariances[-1] - here.covariances[0]).min() > 1e-2


def run_of(learn, metric="log", rows=slice(None), starts=5, **options):
    """A short run of replicas that each start with covariances of their own."""
    arguments = problem(5, 3, metric, seed=20)
    proposals = random_covariances(21, 2 * starts, 3).reshape(starts, 2, 3, 3)
    arguments["covariances"] = Covariances(arguments["covariances"].target, proposals[rows], metric)
    return simulate_particles(
        np.repeat(MEANS[None], starts, axis=0)[rows],
        **arguments,
        **{"betas": np.full(9, 0.5), "dt": 0.05, "particles": 40, "seed": 6, "record_every": 4, **options},
        learn=learn,
    )


def test_each_replica_has_its_own_start_and_no_thread_count_matters(monkeypatch):
    reference = run_of(ALL)
    starts = random_covariances(21, 10, 3).reshape(5, 2, 3, 3)
    np.testing.assert_allclose(reference.covariances[0], starts, rtol=0, atol=1e-14)
    assert reference.covariances.shape == (4, 5, 2, 3, 3)
    assert reference.X.shape == (4, 5, 2, 3)
    for threads in (1, 2, 7):
        monkeypatch.setattr(numba, "get_num_threads", lambda threads=threads: threads)
        again = run_of(ALL)
        for name in ("final_means", "X", "covariances"):
            np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))
    np.testing.assert_array_equal(run_of(ALL, rows=slice(0, 2)).covariances, reference.covariances[:, :2])


@pytest.mark.parametrize("learn", [("means",), ("covariances",), ("scales", "covariances"), ("weights",)])
def test_what_is_not_learned_rests(learn):
    run = run_of(learn, "bures-wasserstein")
    moves = {
        "means": np.any(run.final_means != MEANS),
        "covariances": np.any(run.covariances[-1] != run.covariances[0]),
        **{name: np.any(values[-1] != values[0]) for name, values in run.parameters.items()},
    }
    assert {name for name, does in moves.items() if does} == set(learn)
    options = {"beta": 0.5, "particles": 16, "replicas": 4, "seed": 3}
    part, whole = (estimate_velocity(MEANS, **problem(5, 3), **options, learn=names) for names in (learn, ALL))
    expected = whole.covariances if "covariances" in learn else 0
    np.testing.assert_allclose(part.covariances, expected, rtol=1e-12)


def test_single_precision_agrees_with_double():
    double, single = (run_of(ALL, precision=precision) for precision in ("float64", "float32"))
    np.testing.assert_allclose(single.final_means, double.final_means, rtol=0, atol=1e-6)
    np.testing.assert_allclose(single.covariances, double.covariances, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "rule"), [("log", r"1 / w_i, here 1\.7"), ("bures-wasserstein", r"sigma\^2 / w_i, here")]
)
def test_too_long_a_step_of_the_covariances_is_an_error(metric, rule):
    with pytest.raises(DivergenceError, match=rf"^the covariances diverge with dt = 100; .* below {rule}"):
        run_of(("covariances",), metric, dt=100.0, betas=np.ones(40))


def test_scales_have_the_limit_of_their_own_coordinates():
    with pytest.raises(DivergenceError, match=r"^the scales diverge .* below 1 / \(\(d - r\) w_i\), here 0\.83$"):
        run_of(("scales",), dt=1e3)


GOOD = random_covariances(30, 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariances": Covariances(GOOD, GOOD, "euclidean")}, "metric"),
        ({"covariances": Covariances(GOOD[:1], GOOD)}, "target covariances must be 2 matrices"),
        ({"covariances": Covariances(GOOD, GOOD[:, :1, :1])}, "proposal covariances must be 2 matrices of one size"),
        ({"covariances": Covariances(np.ones((2, 6, 6)), GOOD)}, "size r from 1 to 5"),
        ({"covariances": Covariances(GOOD, GOOD[0])}, "3 or 4 dimensions"),
        ({"covariances": Covariances(GOOD, np.repeat(GOOD[None], 3, axis=0))}, "each of 1 replicas, not 3"),
        ({"covariances": Covariances(GOOD * np.nan, GOOD)}, "finite"),
        ({"covariances": Covariances(GOOD, -GOOD)}, "positive definite"),
        ({"covariances": Covariances(GOOD * [[1, 1.1], [1, 1]], GOOD)}, "symmetric"),
        ({"projected": True}, "leave out objective and projected"),
        ({"objective": Objective(0.5)}, "leave out objective and projected"),
        ({"objective": Objective(0.0, 2.0)}, "leave out objective and projected"),
        ({"covariances": None, "learn": ("covariances",)}, "means, weights, scales in a tuple"),
        ({"learn": ("modes",)}, "means, weights, scales, covariances in a tuple"),
    ],
)
def test_bad_input_is_one_clear_line(options, message):
    arguments = {**problem(5, 2), "betas": [0.5], "dt": 0.1, "particles": 4, "seed": 0, **options}
    with pytest.raises(ValueError, match=message) as caught:
        simulate_particles(MEANS[None], **arguments)
    assert "\n" not in str(caught.value)


def test_a_velocity_has_one_state_and_a_rule_has_no_covariances():
    several = Covariances(GOOD, np.repeat(GOOD[None], 4, axis=0))
    with pytest.raises(ValueError, match="3 dimensions"):
        estimate_velocity(MEANS, **{**problem(5, 2), "covariances": several}, beta=0.5, particles=4, replicas=4, seed=0)
    mixtures = {**MIXTURES, "target_means": TARGET_MEANS}
    with pytest.raises(ValueError, match="means, weights, scales in a tuple"):
        simulate_adaptively(
            MEANS[None],
            **mixtures,
            rule=AdaAnn(0.3, 1, 0.1, 5),
            dt=0.1,
            steps=2,
            particles=5,
            seed=4,
            learn=("covariances",),
        )


def test_extrapolation_refuses_runs_in_different_coordinates():
    options = {"particles": 4, "seed": 1, "betas": np.ones(2), "dt": 0.1}
    starts = np.repeat(MEANS[None], 2, axis=0)
    with_r, without = (
        simulate_particles(starts, **{**problem(5, 2), **given}, **options) for given in ({}, {"covariances": None})
    )
    half = simulate_particles(starts, **problem(5, 3), **{**options, "dt": 0.05, "betas": np.ones(4)}, record_every=2)
    for coarse in (with_r, without):
        with pytest.raises(ValueError, match="covariances in the same coordinates"):
            extrapolate_step(coarse, half)
