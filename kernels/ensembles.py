"""The exact law of all overlaps at t = 0, sampled without ever forming a vector in R^d.

A mean uniform on its sphere is a Gaussian vector divided by its length. In a basis that begins with the span of the modes, the
Gaussian vectors' Gram matrix needs their coordinates along the span (independent normals) and the Gram matrix of the rest, which is
Wishart with d − r degrees of freedom; Bartlett's factor writes that by chi variables and normals, O(1) numbers for any d.
"""

from __future__ import annotations

import numpy as np


def initial_gram(n: int, dimension: int, radii: np.ndarray, target_gram: np.ndarray, seed: int) -> np.ndarray:
    """n Gram matrices (n, r + L, r + L) of the modes and of L independent means, uniform on spheres of the given radii.

    radii: (L,). target_gram: (k, k), the modes' own Gram matrix, of any rank up to `dimension`.
    The draws are those of one stream: the first n of a longer request are the same.
    Raises ValueError for a dimension below the modes' rank or a matrix that is no Gram matrix.
    """
    radii = np.asarray(radii, float)
    coordinates = _coordinates(np.asarray(target_gram, float))
    rank, size = coordinates.shape[1], len(radii)
    if not dimension >= 1 or rank > dimension:
        raise ValueError(f"modes that span {rank} dimensions do not fit in {dimension}")
    rng = np.random.Generator(np.random.Philox(key=seed))
    freedom = [min(size, dimension - rank), dimension - rank]
    columns = rank + freedom[0]
    draws = rng.standard_normal((n, size * columns))
    factor = draws.reshape(n, size, columns)
    chi = np.random.Generator(np.random.Philox(key=seed).jumped()).standard_gamma
    degrees = np.array([(freedom[1] - i) / 2 for i in range(freedom[0])])
    lengths = np.sqrt(2 * chi(np.broadcast_to(degrees, (n, freedom[0])))) if freedom[0] else np.zeros((n, 0))
    for i in range(size):
        factor[:, i, rank + i + 1 :] = 0.0
        if i < freedom[0]:
            factor[:, i, rank + i] = lengths[:, i]
    means = factor * (radii[:, None] / np.linalg.norm(factor, axis=2, keepdims=True))
    modes = np.zeros((n, len(coordinates), columns))
    modes[:, :, :rank] = coordinates
    vectors = np.concatenate([modes, means], axis=1)
    return vectors @ vectors.transpose(0, 2, 1)


def _coordinates(gram: np.ndarray) -> np.ndarray:
    """Vectors (k, rank) with the given Gram matrix, in the fewest coordinates."""
    if gram.size == 0:  # every mode is at the origin
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(gram)
    floor = 1e-12 * max(float(values[-1]), np.finfo(float).tiny)
    if values[0] < -1e3 * floor or not np.allclose(gram, gram.T):
        raise ValueError("the modes' Gram matrix is not symmetric and positive semidefinite")
    kept = values > floor
    return vectors[:, kept] * np.sqrt(values[kept])
