"""Spectra at a fixed point of the means: motions within the span of modes and means, and those orthogonal to it,
without mere rotations.

A point whose means reach into `rank` dimensions orthogonal to the modes has L(r + rank − 1) − rank(rank − 1)/2
eigenvalues within the span, each once, and L − rank for each of the d − r − rank dimensions that are left. Rotations
about the modes change no overlap and are no motions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annealvi.fixed_points.mean_flow import MeanFlow, tangent_basis
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class Spectrum:
    """within, across: eigenvalues per unit of the flow's time, decreasing; each of `across` occurs `copies` times.

    resolution: what an eigenvalue must differ from zero by for its sign to be known.
    """

    within: np.ndarray
    across: np.ndarray
    copies: int
    resolution: float

    __repr__ = short_repr

    @property
    def all(self) -> np.ndarray:
        """Every eigenvalue that occurs, decreasing; those of `across` once."""
        return np.sort(np.concatenate([self.within, self.across]))[::-1]

    @property
    def stable(self) -> bool:
        return bool((self.all < -self.resolution).all())

    @property
    def resolved(self) -> bool:
        """Whether every sign is known."""
        return bool((np.abs(self.all) > self.resolution).all())

    @property
    def index(self) -> int:
        """The point's contribution to the Euler characteristic of the set of Gram matrices, see `search`."""
        return 0 if (self.across > 0).any() else (-1) ** int((self.within > 0).sum())


def spectrum_at(flow: MeanFlow, beta: float, means: np.ndarray, fine: bool = True) -> Spectrum:
    """The spectrum at a zero (L, r + rank) of the velocity whose means reach into all of its dimensions.

    fine: by differences of sixth order, accurate to some 1e-11 of the forces; else of second, to some 1e-7.
    """
    basis = tangent_basis(means[None])
    slopes = flow.linearisation(beta, means[None], basis, fine)[0]
    symmetric = (slopes + slopes.T) / 2
    strength = float(flow.strength(beta, means[None])[0])
    radius = float(flow.radii.min())
    within = np.linalg.eigvalsh(_outside(rotations(flow, means, basis[0]), symmetric))
    copies = flow.dimension - means.shape[1]
    across = (
        np.linalg.eigvalsh(_outside(means[:, flow.span :], flow.transverse(beta, means))) if copies else np.zeros(0)
    )
    asymmetry = float(np.abs(slopes - slopes.T).max(initial=0.0))
    return Spectrum(within[::-1], across[::-1], copies, max(asymmetry, (1e-10 if fine else 1e-6) * strength / radius))


def slowest_motion(flow: MeanFlow, beta: float, means: np.ndarray) -> np.ndarray:
    """The unit motion (D,) within the span, in tangent coordinates, whose eigenvalue is closest to zero."""
    basis = tangent_basis(means[None])
    slopes = flow.linearisation(beta, means[None], basis, fine=True)[0]
    rest = _complement(rotations(flow, means, basis[0]))
    values, vectors = np.linalg.eigh(rest.T @ (slopes + slopes.T) @ rest)
    return rest @ vectors[:, np.abs(values).argmin()]


def rotations(flow: MeanFlow, means: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Tangent coordinates (D, rank(rank − 1)/2) of the means' motion under rotations that leave the modes where they
    are."""
    size, n = means.shape
    columns = []
    for p in range(flow.span, n):
        for q in range(p + 1, n):
            motion = np.zeros((size, n))
            motion[:, p], motion[:, q] = -means[:, q], means[:, p]
            columns.append(np.einsum("inm,in->im", basis, motion).ravel())
    return np.array(columns).reshape(len(columns), size * (n - 1)).T


def _outside(directions: np.ndarray, symmetric: np.ndarray) -> np.ndarray:
    """A symmetric matrix on the orthogonal complement of the directions (D, m)."""
    rest = _complement(directions)
    return rest.T @ symmetric @ rest


def _complement(directions: np.ndarray) -> np.ndarray:
    """An orthonormal basis (D, D − m) of the complement of independent directions (D, m)."""
    size, count = directions.shape
    return np.linalg.qr(directions, mode="complete")[0][:, count:] if count else np.eye(size)
