"""The sampled overlaps have the law of overlaps of independent vectors, uniform on spheres, in every dimension.

All tests have fixed seeds. A test of a distribution fails below p = 1e-4. About a hundred such tests run, so that with
fresh seeds a correct sampler would fail some test one time in a hundred. The wrong sampler at the end of this file
fails by a large margin.
"""

import numpy as np
import pytest
from scipy import stats

import annealvi
from annealvi.session import starts
from kernels.integrate.ensembles import GramStream

LEVEL = 1e-4
DRAWS = 20_000
ONE_MODE = np.array([[1.0]])
TWO_MODES = np.array([[4.0, 1.0], [1.0, 2.0]])


def initial_gram(n, dimension, radii, target_gram, seed):
    """The first n matrices of a stream."""
    return GramStream(dimension, radii, target_gram, seed).draw(n)


def brute_force(n, dimension, radii, target_gram, seed):
    """Gram matrices of vectors that are drawn in R^d."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(target_gram)
    modes = np.zeros((len(target_gram), max(dimension, len(target_gram))))
    modes[:, : len(values)] = vectors * np.sqrt(np.maximum(values, 0.0))
    kept = np.argsort(np.abs(modes).max(0))[::-1][:dimension]
    means = rng.normal(size=(n, len(radii), dimension))
    means *= np.asarray(radii)[:, None] / np.linalg.norm(means, axis=2, keepdims=True)
    every = np.concatenate([np.broadcast_to(modes[:, kept], (n, len(modes), dimension)), means], axis=1)
    return every @ every.transpose(0, 2, 1)


def entries(gram):
    """The off-diagonal overlaps, and two joint functions of them: a product around a triangle and the determinant."""
    size = gram.shape[1]
    rows = {f"{i}{j}": gram[:, i, j] for i in range(size) for j in range(i)}
    rows["triangle"] = gram[:, 0, size - 2] * gram[:, 0, size - 1] * gram[:, size - 2, size - 1]
    rows["determinant"] = np.linalg.det(gram)
    return rows


@pytest.mark.parametrize("dimension", [2, 3, 5, 128])
@pytest.mark.parametrize(
    ("target", "radii"), [(ONE_MODE, (1.0, 1.0)), (TWO_MODES, (1.5, 0.5, 2.0))], ids=["one mode", "two modes"]
)
def test_law_of_the_overlaps(dimension, target, radii):
    ours = entries(initial_gram(DRAWS, dimension, np.array(radii), target, 11))
    theirs = entries(brute_force(DRAWS, dimension, radii, target, 12))
    for name, values in ours.items():
        if np.ptp(theirs[name]) < 1e-9 * max(1.0, np.abs(theirs[name]).max()):
            np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-9, err_msg=name)
        elif name == "determinant" and dimension < len(target) + len(radii):
            assert np.abs(values).max() < 1e-9, "too many vectors for the dimension are linearly dependent"
        else:
            assert stats.ks_2samp(values, theirs[name]).pvalue > LEVEL, name


@pytest.mark.parametrize("dimension", [2, 3, 5, 128, 10**6])
def test_one_overlap_has_its_beta_law(dimension):
    """(1 + m)/2 ~ Beta((d − 1)/2, (d − 1)/2), both for a mean's overlap with the mode and for that of two means."""
    gram = initial_gram(DRAWS, dimension, np.ones(2), ONE_MODE, 5)
    law = stats.beta((dimension - 1) / 2, (dimension - 1) / 2)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert stats.kstest((1 + gram[:, i, j]) / 2, law.cdf).pvalue > LEVEL
    # E[m_1 m_2 s] = 1/d² tests the joint law: a sampler with correct marginals alone would miss it.
    product = gram[:, 0, 1] * gram[:, 0, 2] * gram[:, 1, 2] * dimension**2
    assert abs(product.mean() - 1) < 4.5 * product.std() / np.sqrt(DRAWS)


def test_one_dimension_has_signs_only():
    gram = initial_gram(DRAWS, 1, np.array([1.0, 2.0]), ONE_MODE, 3)
    m_1, m_2, s = gram[:, 0, 1], gram[:, 0, 2] / 2, gram[:, 1, 2] / 2
    np.testing.assert_allclose(np.abs([m_1, m_2, s]), 1.0, atol=1e-15)
    np.testing.assert_allclose(m_1 * m_2, s, atol=1e-15)
    counts = np.unique(np.stack([m_1 > 0, m_2 > 0]), axis=1, return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > LEVEL
    assert len(counts) == 4


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 128])
def test_diagonals_are_exact_and_matrices_positive(dimension):
    radii = np.array([3.0, 0.5, 1.0])
    gram = initial_gram(500, dimension, radii, np.array([[9.0]]), 8)
    assert gram.shape == (500, 4, 4)
    np.testing.assert_allclose(np.diagonal(gram, axis1=1, axis2=2), [[9.0, *radii**2]] * 500, rtol=1e-14)
    np.testing.assert_allclose(gram, gram.transpose(0, 2, 1), rtol=0, atol=1e-14)
    eigenvalues = np.linalg.eigvalsh(gram)
    assert eigenvalues.min() > -1e-13
    assert np.all((eigenvalues > 1e-12).sum(1) <= min(dimension, 4))


def test_a_longer_request_begins_with_the_shorter_one():
    short, long = (initial_gram(n, 7, np.ones(2), ONE_MODE, 21) for n in (10, 5000))
    np.testing.assert_array_equal(long[:10], short)
    assert not np.array_equal(initial_gram(10, 7, np.ones(2), ONE_MODE, 22), short)


@pytest.mark.parametrize("dimension", [2, 7, 128])
def test_parts_of_any_size_are_the_same_numbers(dimension):
    request = dimension, np.array([1.5, 0.5, 2.0]), TWO_MODES, 21
    stream = GramStream(*request)
    parts = [stream.draw(n) for n in (1, 2, 0, 60, 1, 500)]
    np.testing.assert_array_equal(np.concatenate(parts), initial_gram(564, *request))


@pytest.mark.parametrize("size", [1, 16, 300, 1000])
def test_states_in_parts_are_the_same_numbers(monkeypatch, size):
    session = annealvi.open_session(annealvi.load_problem("learned-weights"))
    whole = session.random_states(300, 4)
    monkeypatch.setattr(starts, "DRAWN_AT_ONCE", 7)
    parts = list(session.random_states_in_parts(300, 4, size))
    assert [len(part) for part in parts] == [size] * (300 // size) + [300 % size] * (300 % size > 0)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(session.random_states(300, 4), whole)
    assert session.random_states(0, 4).shape == (0, whole.shape[1])


def test_dependent_modes_are_allowed():
    """Two antipodal modes span one dimension only."""
    opposite = np.array([[9.0, -9.0], [-9.0, 9.0]])
    gram = initial_gram(200, 1, np.array([2.0]), opposite, 1)
    np.testing.assert_allclose(gram[:, 0, 2], -gram[:, 1, 2], atol=1e-12)
    np.testing.assert_allclose(np.abs(gram[:, 0, 2]), 6.0, atol=1e-12)


@pytest.mark.parametrize(
    ("dimension", "target", "message"),
    [
        (1, TWO_MODES, "do not fit"),
        (0, ONE_MODE, "do not fit"),
        (3, np.array([[1.0, 2.0], [2.0, 1.0]]), "positive semidefinite"),
    ],
)
def test_impossible_requests_are_refused(dimension, target, message):
    with pytest.raises(ValueError, match=message):
        initial_gram(5, dimension, np.ones(2), target, 1)


def test_a_wrong_law_is_found():
    """The tests of this file notice a sampler whose chi variables have one degree of freedom too many."""
    wrong = initial_gram(DRAWS, 6, np.ones(2), ONE_MODE, 11)
    right = brute_force(DRAWS, 5, (1.0, 1.0), ONE_MODE, 12)
    assert stats.ks_2samp(wrong[:, 0, 1], right[:, 0, 1]).pvalue < LEVEL / 1000


def test_without_modes_the_means_are_independent_on_their_spheres():
    gram = initial_gram(DRAWS, 5, np.array([2.0, 3.0]), np.zeros((0, 0)), 4)
    np.testing.assert_allclose(np.diagonal(gram, axis1=1, axis2=2), [[4.0, 9.0]] * DRAWS, rtol=1e-14)
    assert stats.kstest((1 + gram[:, 0, 1] / 6) / 2, stats.beta(2, 2).cdf).pvalue > LEVEL
