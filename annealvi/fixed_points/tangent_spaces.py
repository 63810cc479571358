"""Moves of vectors along the tangent spaces of their spheres."""

from __future__ import annotations

import numpy as np


def tangent_basis(means: np.ndarray) -> np.ndarray:
    """Return orthonormal bases (..., n, n − 1) of the spaces orthogonal to the means (..., n).

    The basis is the columns, other than the mean itself, of a reflection that maps the first axis to the mean.
    """
    unit = means / np.linalg.norm(means, axis=-1, keepdims=True)
    n = unit.shape[-1]
    sign = np.where(unit[..., :1] < 0, -1.0, 1.0)
    normal = unit.copy()
    normal[..., :1] += sign
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.eye(n)[:, 1:] - 2 * normal[..., :, None] * normal[..., None, 1:]


def retract(means: np.ndarray, basis: np.ndarray, step: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Move the means (..., L, n) by tangent coordinates (..., L(n − 1)), and put them back on their spheres."""
    size, n = means.shape[-2:]
    parts = step.reshape(*step.shape[:-1], size, n - 1)
    moved = means + np.einsum("...inm,...im->...in", basis, parts)
    return radii[:, None] * moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def in_basis(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the coordinates (..., L m) of vectors (..., L, n) along the directions (..., L, n, m) of a basis."""
    parts = np.einsum("...inm,...in->...im", basis, vectors)
    return parts.reshape(*parts.shape[:-2], parts.shape[-2] * parts.shape[-1])
