"""Samples of the exact law of all overlaps at t = 0, made without forming a vector in R^d.

A mean that is uniform on its sphere is a Gaussian vector divided by its length. Take a basis that begins with the span
of the modes, of dimension r. The Gram matrix of the Gaussian vectors then needs their coordinates along the span, which
are independent normals, and the Gram matrix of their other coordinates, which is Wishart with d − r degrees of freedom.
Bartlett's factor makes the latter from chi variables and normals, of which there are O(1) for every d.
"""

from __future__ import annotations

import numpy as np


class GramStream:
    """A stream of Gram matrices of the k modes and of L independent means, uniform on spheres of the given radii.

    The numbers are the same whether the matrices are drawn at once or in parts.
    """

    def __init__(self, dimension: int, radii: np.ndarray, target_gram: np.ndarray, seed: int) -> None:
        """Prepare the stream.

        radii: (L,) the lengths of the means. target_gram: (k, k) the Gram matrix of the modes, of any rank up to
        `dimension`. Raises ValueError for a dimension below the rank of the modes, or for a matrix that is no Gram
        matrix.
        """
        self.radii = np.asarray(radii, float)
        self.modes = _coordinates(np.asarray(target_gram, float))
        rank = self.modes.shape[1]
        if not dimension >= 1 or rank > dimension:
            raise ValueError(f"modes that span {rank} dimensions do not fit in {dimension}")
        self.others = dimension - rank
        # Each kind of variable has its own stream. In a common stream the numbers would depend on how many matrices
        # are drawn at once.
        self.normals = np.random.Generator(np.random.Philox(key=seed))
        self.chis = np.random.Generator(np.random.Philox(key=seed).jumped())

    def draw(self, n: int) -> np.ndarray:
        """The next n matrices (n, k + L, k + L)."""
        factor = self._factors(n)
        means = factor * (self.radii[:, None] / np.linalg.norm(factor, axis=2, keepdims=True))
        modes = np.zeros((n, len(self.modes), factor.shape[2]))
        modes[:, :, : self.modes.shape[1]] = self.modes
        vectors = np.concatenate([modes, means], axis=1)
        return vectors @ vectors.transpose(0, 2, 1)

    def _factors(self, n: int) -> np.ndarray:
        """n sets of L Gaussian vectors (n, L, coordinates), rotated into as few coordinates as possible."""
        size, rank = len(self.radii), self.modes.shape[1]
        outside = min(size, self.others)
        factor = self.normals.standard_normal((n, size * (rank + outside))).reshape(n, size, rank + outside)
        degrees = np.array([(self.others - i) / 2 for i in range(outside)])
        lengths = (
            np.sqrt(2 * self.chis.standard_gamma(np.broadcast_to(degrees, (n, outside))))
            if outside
            else np.zeros((n, 0))
        )
        for i in range(size):
            factor[:, i, rank + i + 1 :] = 0.0
            if i < outside:
                factor[:, i, rank + i] = lengths[:, i]
        return factor


def _coordinates(gram: np.ndarray) -> np.ndarray:
    """Vectors (k, rank) with the given Gram matrix, in the fewest possible coordinates."""
    if gram.size == 0:  # no mode lies away from the origin
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh(gram)
    floor = 1e-12 * max(float(values[-1]), np.finfo(float).tiny)
    if values[0] < -1e3 * floor or not np.allclose(gram, gram.T):
        raise ValueError("the modes' Gram matrix is not symmetric and positive semidefinite")
    kept = values > floor
    return vectors[:, kept] * np.sqrt(values[kept])
