"""Spectra at a fixed point: motions within the span of modes and means, and motions of the means orthogonal to it.

Let the means reach into `rank` dimensions orthogonal to the modes. Within the span there are, on spheres, L(r + rank −
1) − rank(rank − 1)/2 eigenvalues, each once; without spheres L more, with learned weights L − 1 more and with learned
scales L more. Across it there are L − rank for each of the remaining d − r − rank dimensions. Rotations about the modes
and the common shift of the log weights change no state, so they are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annealvi.fixed_points.mean_flow import MeanFlow
from derive.objects.parameters import WEIGHTS
from derive.objects.short_repr import short_repr


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues at a fixed point, per unit of the flow's time.

    Attributes
    ----------
    within : ndarray
        Eigenvalues within the span of modes and means, those of weights and scales included, decreasing.
    across : ndarray
        Eigenvalues across the span, decreasing; each occurs `copies` times.
    copies : int
        Number of dimensions orthogonal to the span.
    resolution : float
        The sign of an eigenvalue is known if the eigenvalue differs from zero by more than this.
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
        """Whether every eigenvalue is negative beyond doubt."""
        return bool((self.all < -self.resolution).all())

    @property
    def resolved(self) -> bool:
        """Whether every sign is known."""
        return bool((np.abs(self.all) > self.resolution).all())

    @property
    def index(self) -> int:
        """The point's contribution to the Euler characteristic of the set of Gram matrices, see `completeness`."""
        return 0 if (self.across > 0).any() else (-1) ** int((self.within > 0).sum())


def spectrum_at(flow: MeanFlow, beta: float, place: np.ndarray, fine: bool = True) -> Spectrum:
    """Return the spectrum at a zero (L, p + r + rank) of the velocity whose means reach into all of its dimensions.

    With `fine` the differences are of sixth order and accurate to some 1e-11 of the forces, otherwise of second order
    and accurate to some 1e-7.
    """
    basis = flow.basis(place[None])
    slopes = flow.linearisation(beta, place[None], basis, fine)[0]
    symmetric = (slopes + slopes.T) / 2
    strength = float(flow.strength(beta, place[None])[0])
    unit = flow.least_unit
    within = np.linalg.eigvalsh(_outside(idle_motions(flow, place, basis[0]), symmetric))
    copies = flow.dimension - place.shape[1] + flow.lead
    across = (
        np.linalg.eigvalsh(_outside(place[:, flow.unturned :], flow.transverse(beta, place))) if copies else np.zeros(0)
    )
    asymmetry = float(np.abs(slopes - slopes.T).max(initial=0.0))
    return Spectrum(within[::-1], across[::-1], copies, max(asymmetry, (1e-10 if fine else 1e-6) * strength / unit))


def slowest_motion(flow: MeanFlow, beta: float, place: np.ndarray) -> np.ndarray:
    """Return the unit motion (D,) within the span, in the flow's coordinates, whose eigenvalue is closest to zero."""
    basis = flow.basis(place[None])
    slopes = flow.linearisation(beta, place[None], basis, fine=True)[0]
    rest = _complement(idle_motions(flow, place, basis[0]))
    values, vectors = np.linalg.eigh(rest.T @ (slopes + slopes.T) @ rest)
    return rest @ vectors[:, np.abs(values).argmin()]


def idle_motions(flow: MeanFlow, place: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return the motions that change no state: rotations about the modes, and the common shift of the log weights.

    The motions are in the flow's coordinates, shape (D, rank(rank − 1)/2), or one more with learned weights.
    """
    size, columns = place.shape
    motions = []
    for p in range(flow.unturned, columns):
        for q in range(p + 1, columns):
            motion = np.zeros((size, columns))
            motion[:, p], motion[:, q] = -place[:, q], place[:, p]
            motions.append(motion)
    if WEIGHTS in flow.learned:
        shift = np.zeros((size, columns))
        shift[:, 0] = 1.0
        motions.append(shift)
    along = [np.einsum("inm,in->im", basis, motion).ravel() for motion in motions]
    return np.array(along).reshape(len(along), size * basis.shape[-1]).T


def _outside(directions: np.ndarray, symmetric: np.ndarray) -> np.ndarray:
    """Restrict a symmetric matrix to the orthogonal complement of the directions (D, m)."""
    rest = _complement(directions)
    return rest.T @ symmetric @ rest


def _complement(directions: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (D, D − m) of the complement of independent directions (D, m)."""
    size, count = directions.shape
    return np.linalg.qr(directions, mode="complete")[0][:, count:] if count else np.eye(size)
