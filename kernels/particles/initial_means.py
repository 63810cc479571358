"""Initial means of a particle simulation: random ones, or ones with given overlaps."""

from __future__ import annotations

import operator

import numpy as np
from numba import njit

from kernels.particles.random_stream import INITIAL_STATE, MAX_COMPONENTS, MAX_REPLICAS, blocks_of, fill_normals


@njit
def _fill_all(normals: np.ndarray, seed: np.uint64) -> None:
    for replica in range(normals.shape[0]):
        for component in range(normals.shape[1]):
            fill_normals(normals[replica, component], seed, replica, 0, component, INITIAL_STATE)


def checked_seed(seed: int) -> np.uint64:
    """The seed as the random stream takes it; raises ValueError unless it is an integer from 0 to 2^64 - 1."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, not {seed!r}")
    return np.uint64(number)


def uniform_sphere_means(replicas: int, L: int, d: int, radius: float | np.ndarray, seed: int) -> np.ndarray:
    """Independent means, uniform on spheres in R^d, as (replicas, L, d) of float64.

    radius: one number, or (L,). The draws come from the simulation's random stream, so that they are the same on every
    machine. No simulation uses this part of the stream, so that the run may have the same seed. Raises ValueError for
    arguments out of range.
    """
    if not (1 <= replicas <= MAX_REPLICAS and 1 <= L <= MAX_COMPONENTS and d >= 1):
        raise ValueError(
            f"need 1 to {MAX_REPLICAS} replicas, 1 to {MAX_COMPONENTS} components and d >= 1, "
            f"not {replicas}, {L} and {d}"
        )
    radii = np.asarray(radius, float)
    if radii.shape not in ((), (L,)) or not np.all(np.isfinite(radii) & (radii > 0)):
        raise ValueError(f"radius must be one positive number or {L} of them, not {radius!r}")
    normals = np.empty((replicas, L, 4 * blocks_of(d)))
    _fill_all(normals, checked_seed(seed))
    means = normals[..., :d]
    return np.broadcast_to(radii, (L,))[:, None] * means / np.linalg.norm(means, axis=-1, keepdims=True)


def embed_overlaps(gram: np.ndarray, K: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of R^d with the given overlaps: the target's means (K, d) and the proposal's means (L, d).

    gram: (K + L, K + L), the inner products of nu_1 .. nu_K, a_1 .. a_L in this order; the states M and Q are parts of
    it. The vectors are unique up to a rotation, and may be linearly dependent. Raises ValueError if no vectors of R^d
    have these overlaps.
    """
    gram = np.asarray(gram, float)
    size = len(gram) if gram.ndim == 2 else 0
    if gram.shape != (size, size) or not 1 <= K < size or not np.all(np.isfinite(gram)):
        raise ValueError(
            f"gram must be a finite square matrix of more than K = {K} rows, not one of shape {gram.shape}"
        )
    tolerance = 1e-10 * np.abs(gram).max()
    if np.abs(gram - gram.T).max() > tolerance:
        raise ValueError("gram must be symmetric")
    eigenvalues, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    if eigenvalues[0] < -tolerance:
        raise ValueError(f"gram is no matrix of inner products: it has the negative eigenvalue {eigenvalues[0]:.3g}")
    descending = np.argsort(eigenvalues)[::-1]
    lost = np.maximum(eigenvalues[descending][d:], 0.0)
    if lost.sum() > tolerance:
        raise ValueError(
            f"gram has rank {int(np.sum(eigenvalues > tolerance))}, so that its vectors do not "
            f"fit into d = {d} dimensions"
        )
    embedded = np.zeros((size, d))
    kept = descending[:d]
    embedded[:, : len(kept)] = vectors[:, kept] * np.sqrt(np.maximum(eigenvalues[kept], 0.0))
    return embedded[:K], embedded[K:]
