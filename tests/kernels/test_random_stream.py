"""The random stream: Philox gives its published known answers, and the normals have the right laws.

Seeds are fixed, so that a statistical test always passes or always fails. Unless a test says otherwise, bounds are 5
standard errors of the statistic under its null law (probability 6e-7 each).
"""

import math

import numpy as np
import pytest
from numba import njit
from scipy import stats

from kernels.particles import random_stream
from kernels.particles.random_stream import (
    INITIAL_STATE,
    ORTHOGONAL_NOISE,
    fill_normals,
    four_normals,
    log_of_unit,
    normal_pair,
    philox4x32,
)

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [  # kat_vectors of Random123, philox4x32 with 10 rounds: counter, key, output
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@njit
def draw_normals(out, seed, replica, step, component, first_particle):
    for row in range(len(out)):
        fill_normals(out[row], seed, replica, step, component, first_particle + row)


def normals(shape, seed=1, replica=0, step=0, component=0, first_particle=0, dtype=np.float64):
    out = np.empty(shape, dtype)
    draw_normals(out, np.uint64(seed), replica, step, component, first_particle)
    return out


@pytest.mark.quick
@pytest.mark.parametrize("function", [philox4x32, philox4x32.py_func], ids=["compiled", "python"])
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(function, counter, key, answer):
    assert tuple(int(word) for word in function(*(np.uint64(word) for word in (*counter, *key)))) == answer


def test_vectorised_loop_draws_what_the_scalar_function_draws():
    seed = np.uint64(0xDEADBEEF_12345678)
    for dtype in (np.float64, np.float32):
        row = normals((1, 40), seed, 3, 5, 1, 7, dtype)[0]
        scalars = np.array([four_normals(seed, 3, 5, 1, 7, block, dtype) for block in range(10)]).ravel()
        # Fused and unfused multiply-adds differ by roundings, which the root magnifies for small radii.
        np.testing.assert_allclose(row, scalars, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("real", [np.float64, np.float32])
def test_logarithm_series_has_the_working_precision(real):
    words = np.concatenate(
        [2.0 ** np.arange(32), 2.0 ** np.arange(1, 33) - 1, np.random.default_rng(0).integers(1, 2**32, 2000)]
    )
    u = (words * 2.0**-32).astype(real)
    value = np.array([log_of_unit(x, real) for x in u])
    np.testing.assert_allclose(value, np.log(u.astype(float)), rtol=4 * np.finfo(real).eps, atol=0)


def test_pair_is_box_muller_on_the_documented_grid():
    quarter = 2**30
    for radius_word, angle_word in [
        (0, 0),
        (2**31, 5),
        (2**32 - 2, quarter - 1),
        (12345, 3 * quarter + 99),
        (77, 2 * quarter + 1),
    ]:
        first, second = normal_pair(np.uint64(radius_word), np.uint64(angle_word), np.float64)
        radius = math.sqrt(-2 * math.log((radius_word + 1) / 2**32))
        angle = ((angle_word % quarter + 0.5) / quarter - 0.5) * math.pi / 2
        along, across = radius * math.cos(angle), radius * math.sin(angle)
        if angle_word & 2**31:
            along = -along
        expected = (across, along) if angle_word & 2**30 else (along, across)
        np.testing.assert_allclose((first, second), expected, rtol=1e-14, atol=1e-20)
    assert normal_pair(np.uint64(0), np.uint64(2**29), np.float64)[0] == pytest.approx(
        math.sqrt(64 * math.log(2)), rel=1e-9
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_normals_have_the_moments_and_the_law_of_normals(dtype):
    z = normals((4000, 256), seed=2, dtype=dtype).astype(float).ravel()
    for power, variance in [(1, 1), (2, 2), (3, 15), (4, 96), (6, 10170), (8, 2016000)]:
        moment = stats.norm.moment(power)
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(variance / z.size)
    assert stats.kstest(z, "norm").pvalue > 1e-6
    beyond = np.sum(np.abs(z) > 4)
    expected = 2 * stats.norm.sf(4) * z.size
    assert abs(beyond - expected) < 5 * math.sqrt(expected)


def test_the_four_normals_of_a_block_are_independent():
    z = normals((50000, 4), seed=3)
    for function in (lambda x: x, np.abs, lambda x: x**2):
        correlations = np.corrcoef(function(z), rowvar=False)[np.triu_indices(4, 1)]
        assert np.abs(correlations).max() < 5 / math.sqrt(len(z))
    angles = np.arctan2(z[:, 1], z[:, 0]) / (2 * math.pi) % 1
    assert stats.kstest(angles, "uniform").pvalue > 1e-6
    assert stats.kstest(z[:, 2] ** 2 + z[:, 3] ** 2, stats.expon(scale=2).cdf).pvalue > 1e-6


@pytest.mark.parametrize(
    "neighbour",
    [
        {"seed": 5},
        {"seed": 4 + 2**32},
        {"replica": 1},
        {"step": 1},
        {"component": 1},
        {"first_particle": 1},
        {"first_particle": INITIAL_STATE},
        {"first_particle": ORTHOGONAL_NOISE},
    ],
    ids=str,
)
def test_neighbouring_keys_draw_independent_numbers(neighbour):
    """Each run is one row, so that a shift of the particle number does not give a shifted copy of the same rows."""
    here, there = normals((1, 400_000), seed=4)[0], normals((1, 400_000), **{"seed": 4, **neighbour})[0]
    for function in (lambda x: x, np.abs):
        assert abs(np.corrcoef(function(here), function(there))[0, 1]) < 5 / math.sqrt(here.size)


def test_a_coordinate_depends_neither_on_the_dimension_nor_on_its_neighbours():
    np.testing.assert_allclose(normals((1, 8))[0], normals((1, 128))[0, :8], rtol=0, atol=1e-14)


def test_every_part_of_the_key_counts_up_to_its_limit():
    key = {"seed": 1, "replica": 0, "step": 0, "component": 0, "first_particle": 0}
    largest = {
        "seed": 2**64 - 1,
        "replica": 2**24 - 1,
        "step": 2**32 - 1,
        "component": 255,
        "first_particle": 2**32 - 2,
    }
    keys = [key, key | {"seed": 1 + 2**32}, largest, *(key | {name: value} for name, value in largest.items())]
    draws = {tuple(normals((1, 4), **key)[0]) for key in keys}
    assert len(draws) == len(keys)
    assert random_stream.MAX_REPLICAS * random_stream.MAX_COMPONENTS == 2**32
