"""The barrier height that `find_barrier` finds from log p* alone.

The reference is the pair of stationary points of a mixture that mpmath finds on the line through its modes.
"""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.special import logsumexp

import annealvi
from derive.problem.specification import BadInput


def on_a_line(positions, weights, scales, dimension, module=np):
    """Returns the log density and the unit vector u of a mixture whose modes lie on a line.

    The log density is log Σ w N(x; position·u, scale² I) up to a constant; u has a random direction.
    """
    u = np.random.default_rng(dimension).normal(size=dimension)
    u /= np.linalg.norm(u)
    positions, scales = np.array(positions), np.array(scales)
    logs = np.log(weights) - dimension * np.log(scales)

    def log_density(x):
        squares = ((x[:, None] - positions[:, None] * u) ** 2).sum(-1) / scales**2
        terms = logs - 0.5 * squares
        top = module.max(terms, 1)
        return top + module.log(module.exp(terms - top[:, None]).sum(1))

    return log_density, u


def height_by_mpmath(positions, weights, scales, dimension):
    """The fall of log p* from the highest maximum to the saddle.

    The stationary points are roots of the derivative along the line of the modes; the other directions have no
    influence.
    """
    parts = [
        (mp.mpf(a), mp.mpf(w) / mp.mpf(s) ** dimension, mp.mpf(s))
        for a, w, s in zip(positions, weights, scales, strict=True)
    ]

    def p(x):
        return sum(w * mp.exp(-(((x - a) / s) ** 2) / 2) for a, w, s in parts)

    def slope(x):
        return sum(w * (a - x) / s**2 * mp.exp(-(((x - a) / s) ** 2) / 2) for a, w, s in parts) / p(x)

    a, b = positions
    with mp.workdps(30):
        maxima = [p(mp.findroot(slope, x)) for x in (a, b)]
        low, high = sorted((a, b))
        crossing = mp.findroot(slope, (low + 0.3, high - 0.3), solver="anderson", tol=1e-25)
        return float(mp.log(max(maxima) / p(crossing)))


@pytest.mark.parametrize(
    ("positions", "weights", "scales", "dimension"),
    [
        ((3.0, -3.0), (0.8, 0.2), (1.0, 1.0), 1),
        ((3.0, -3.0), (0.8, 0.2), (1.0, 1.0), 2),
        ((4.0, -4.0), (0.8, 0.2), (1.0, 1.0), 8),
        ((4.0, -4.0), (0.5, 0.5), (1.0, 1.0), 32),
        ((3.0, -3.0), (0.7, 0.3), (1.0, 0.8), 3),
    ],
)
def test_the_height_between_two_modes_is_that_of_the_saddle(positions, weights, scales, dimension):
    log_density, u = on_a_line(positions, weights, scales, dimension)
    found = annealvi.find_barrier(log_density, 5 * np.random.default_rng(1).normal(size=(12, dimension)))
    assert found.hits.sum() == 12
    exact = height_by_mpmath(positions, weights, scales, dimension)
    # The search finds a mode to within about 1e-9 times the size of log p*, and a valley to within (1/64 · 1/32²)² of
    # its curvature.
    assert found.height == pytest.approx(exact, abs=1e-5)
    assert pytest.approx(2 * found.height) == found.T0
    np.testing.assert_allclose(np.sort(found.modes @ u), np.sort(positions), atol=0.01)


def test_single_precision_and_gradients_of_a_library_serve_as_well():
    """The barrier is found in single precision too, both with central differences and with the gradient of a library.

    Central differences take their step from the precision of the values. In single precision a log p* of size 100 has
    errors of 1e-5.
    """
    log_density, _ = on_a_line((4.0, -4.0), (0.8, 0.2), (1.0, 1.0), 8, jnp)
    starts = 5 * np.random.default_rng(1).normal(size=(12, 8))
    compiled = jax.jit(log_density)
    slopes = jax.jit(jax.vmap(jax.grad(lambda x: log_density(x[None])[0])))
    exact = height_by_mpmath((4.0, -4.0), (0.8, 0.2), (1.0, 1.0), 8)
    for options in ({}, {"gradient": slopes}):
        found = annealvi.find_barrier(compiled, starts, **options)
        assert len(found.modes) == 2
        assert found.height == pytest.approx(exact, abs=1e-4)


@pytest.mark.quick
def test_many_modes_are_joined_by_the_way_that_falls_least():
    """On a ring of modes, the lowest barrier joins neighbours, at the middle between two modes.

    There the two neighbours contribute equally and all other modes are far away. Each mode has variance 0.5.
    """
    angles = np.arange(8) * math.pi / 4
    ring = 10 * np.stack([np.cos(angles), np.sin(angles)], 1)

    def log_density(x):
        return logsumexp(-((x[:, None] - ring) ** 2).sum(-1), axis=1)

    found = annealvi.find_barrier(log_density, 10 * np.random.default_rng(0).normal(size=(60, 2)))
    assert len(found.modes) == 8
    assert found.height == pytest.approx((10 * math.sin(math.pi / 8)) ** 2 - math.log(2), abs=1e-4)
    opposite = np.argmax(np.linalg.norm(found.modes - found.modes[0], axis=1))
    assert found.log_p[0] - found.valleys[0, opposite] > 2 * found.height
    np.testing.assert_array_equal(found.valleys, found.valleys.T)


def test_a_curved_ridge_is_lower_than_the_segment_says():
    """Two modes on a circle, log p* = cos 2θ − 5(r − 3)².

    Along the circle log p* falls by 2; across the middle it falls by about 45. The search follows straight segments and
    so reports the larger height.
    """

    def log_density(x):
        r = np.hypot(x[:, 0], x[:, 1])
        return (x[:, 0] ** 2 - x[:, 1] ** 2) / (r**2 + 1e-12) - 5 * (r - 3) ** 2

    found = annealvi.find_barrier(log_density, [[3.5, 0.2], [-2.0, 1.0]])
    assert len(found.modes) == 2
    along, across = 2.0, 5 * 3.0**2
    assert found.height > across - along > along


@pytest.mark.parametrize("separation", [3.0, 4.0, 8.0])
def test_the_variance_of_log_p_along_a_hot_run_hardly_knows_the_barrier(separation):
    """The variance of log p* along a hot run stays within −0.19 T² and 0.31 T² of that of one Gaussian, T²/2.

    Quadrature along the line gives the variance at temperatures from 1 to 300; each other direction adds T²/2. The
    notebook states the upper bound.
    """
    log_density, _ = on_a_line((separation, -separation), (0.8, 0.2), (1.0, 1.0), 1)
    log_p = log_density(np.linspace(-200, 200, 40_001)[:, None])
    excess = []
    for T in np.geomspace(1, 300, 40):
        share = np.exp((log_p - log_p.max()) / T)
        share /= share.sum()
        excess.append(share @ (log_p - share @ log_p) ** 2 / T**2 - 0.5)
    assert -0.19 < min(excess) < max(excess) < 0.31


@pytest.mark.parametrize("separation", [0.0, 1.1])
def test_where_one_maximum_is_found_there_is_no_temperature_to_begin_at(separation):
    """A single maximum gives no initial temperature.

    At R = 1.1 and equal weights there are two maxima, but their barrier of 0.004 is too low to count.
    """
    log_density, _ = on_a_line((separation, -separation), (0.5, 0.5), (1.0, 1.0), 4)
    found = annealvi.find_barrier(log_density, 3 * np.random.default_rng(0).normal(size=(8, 4)))
    assert (found.height, found.hits.tolist()) == (0.0, [8])
    with pytest.raises(BadInput, match="one maximum was found from 8 starts"):
        found.T0  # noqa: B018


def plain(x):
    return -0.5 * (x**2).sum(1)


@pytest.mark.parametrize(
    ("log_density", "starts", "options", "named"),
    [
        (plain, [1.0, 2.0], {}, "starts"),
        (plain, np.empty((0, 3)), {}, "starts"),
        (plain, [[math.nan]], {}, "starts"),
        (lambda x: x, [[1.0]], {}, "log_density: of 1 points"),
        (lambda x: np.where(x[:, 0] > 0, plain(x), -np.inf), [[1.0, 2.0]], {}, "not finite at"),
        (lambda x: np.full(len(x), np.nan), [[1.0]], {}, r"not finite at \(1\)"),
        (plain, [[1.0]], {"gradient": plain}, "gradient"),
        ("log p", [[1.0]], {}, "log_density"),
    ],
)
def test_bad_input_is_one_line(log_density, starts, options, named):
    with pytest.raises(BadInput, match=named) as caught, np.errstate(all="ignore"):
        annealvi.find_barrier(log_density, starts, **options)
    assert "\n" not in str(caught.value)
