"""Tables of averages over several variables: series in the few coordinates that an average looks at.

A moment is interpolated at Chebyshev points. Its series is then written in few functions of each coordinate, the
leading singular vectors of its coefficients along that axis, so that of some ten thousand coefficients some thousand
are left.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import sympy as sp
from scipy.fft import dctn

from kernels.averages.coordinates import Coordinates
from kernels.averages.moment_sums import STEEPEST, moments_at, nodes_of
from kernels.averages.pairs import PairCoordinates
from kernels.averages.quadrature import CONSTANT
from kernels.averages.state_coordinates import StateCoordinates
from kernels.generate.templates.surface import MOST_FUNCTIONS, MOST_TERMS, PIECE
from kernels.lower.lattice import Moment
from kernels.machine.module_cache import environment_digest, keep, read_kept

FIRST_TERMS, GROWTH = 14, 1.25
"""The number of terms along an axis that is tried first, and the factor by which it grows until it suffices."""
LINES = 8
MOST_SUMMED = 2e9
"""The most nodes, a second or two of work, that the values of one table may take."""
PROBES = 400
SHARPER = 8
"""How often what is left out is halved until the measured error is small enough."""

AnyCoordinates = Coordinates | PairCoordinates | StateCoordinates
Moments = Callable[..., np.ndarray]
"""The moments (N, moments) at points u (N, n) of the cube from −1 to 1, which stands for the box of the coordinates."""


@dataclass(frozen=True)
class Surface:
    """The table of a group's moments.

    Attributes
    ----------
    coordinates
        Where to read it, as expressions in states and parameters.
    table
        (n,) what `kernels.generate.templates.surface` reads.
    moments
        The moments in the table's order.
    everywhere
        Whether the states stay where the table holds. Outside its box the kernel sums.
    size
        The number of coefficients.
    error
        The largest difference from finer sums that was measured.
    probes
        At how many points of the box it was measured.
    """

    coordinates: tuple[sp.Expr, ...]
    moments: tuple[Moment, ...]
    everywhere: bool
    table: np.ndarray
    size: int
    error: float
    probes: int


class Surfaces:
    """The tables of a system's groups to a tolerance. Groups whose moments are one function share a table."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.made: list[tuple[AnyCoordinates, Surface | None]] = []

    def surface_of(self, coordinates: AnyCoordinates) -> Surface | None:
        """The table of a group with these coordinates, or None where its moments are not smooth enough."""
        known = [surface for others, surface in self.made if others.same(coordinates)]
        surface = known[0] if known else _kept_or_made(coordinates, self.tolerance)
        if not known:
            self.made.append((coordinates, surface))
        if surface is None:
            return None
        return replace(
            surface,
            coordinates=coordinates.expressions,
            moments=coordinates.own_moments,
            everywhere=coordinates.everywhere,
        )


def _kept_or_made(coordinates: AnyCoordinates, tolerance: float) -> Surface | None:
    """The table from the cache directory, or a new one, which is then kept there; an empty one stands for None."""
    key = repr((environment_digest(), coordinates.numbers, tolerance))
    name = f"table-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    content = read_kept(name)
    if content is not None:
        found = _unpacked(content)
        if found is not None:
            return (
                None
                if len(found) == 0
                else Surface((), (), True, found[3:], int(found[0]), float(found[1]), int(found[2]))
            )
    surface = _made(coordinates, tolerance)
    array = (
        np.zeros(0)
        if surface is None
        else np.concatenate([[surface.size, surface.error, surface.probes], surface.table])
    )
    keep(name, _packed(array))
    return surface


def _packed(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return hashlib.sha256(stream.getvalue()).digest() + stream.getvalue()


def _unpacked(content: bytes) -> np.ndarray | None:
    """The array of a file, or None if the file is damaged."""
    seal, rest = content[:32], content[32:]
    return np.load(io.BytesIO(rest), allow_pickle=False) if hashlib.sha256(rest).digest() == seal else None


def _made(coordinates: AnyCoordinates, tolerance: float) -> Surface | None:
    """The table of the moments to the tolerance, or None."""
    dimension = len(coordinates.box)
    corners = np.array(list(product((-1.0, 1.0), repeat=dimension)))
    if coordinates.degrees is not None and not coordinates.degrees >= 1:
        return None
    sums = _sums_in_states if isinstance(coordinates, StateCoordinates) else _sums_of_invariants
    found = sums(coordinates, corners, tolerance)  # type: ignore[arg-type]
    return None if found is None else _interpolated(*found, corners, coordinates.box, tolerance)


def _sums_in_states(
    coordinates: StateCoordinates, corners: np.ndarray, tolerance: float
) -> tuple[Moments, float] | None:
    """The moments by the sums of kernels, and about how many nodes they take at the worst of some points."""
    degree = max(sum(m.variables[: coordinates.pattern.normals]) + 2 * sum(m.logs) for m in coordinates.moments)
    of_logs = np.abs(coordinates.coefficients_at(corners)).max() if coordinates.pattern.logged else 1.0
    nats = math.log(
        10 * CONSTANT * coordinates.pattern.variables * max(of_logs, coordinates.degrees or 1.0) / tolerance
    )
    nats += degree * math.log(2 * nats) / 2

    def moments(u: np.ndarray, more_nats: float = 0.0, finer: float = 1.0) -> np.ndarray:
        return coordinates.moments_at(u, finer * nats + more_nats)

    return moments, coordinates.nodes_at(np.concatenate([corners, np.zeros((1, corners.shape[1]))]), nats)


def _sums_of_invariants(
    coordinates: Coordinates | PairCoordinates, corners: np.ndarray, tolerance: float
) -> tuple[Moments, float] | None:
    """The moments at the logits that the coordinates stand for, and about how many nodes they take at most.

    None where a logit is too steep.
    """
    degrees = coordinates.degrees
    at_corners = coordinates.logits_at(corners)
    normals = at_corners.slopes.shape[2]
    of_logs = np.abs(at_corners.offsets).max() if any(any(m.logs) for m in coordinates.moments) else 1.0
    of_variables = degrees or 1.0 if any(any(m.variables) for m in coordinates.moments) else 1.0
    largest = max(normals, of_logs, of_variables)
    nats = math.log(10 * CONSTANT * largest / tolerance)

    def moments(u: np.ndarray, more_nats: float = 0.0, finer: float = 1.0) -> np.ndarray:
        logits = coordinates.logits_at(u)
        exist = np.isfinite(logits.slopes).all(axis=(1, 2))
        logits = logits._replace(slopes=np.where(exist[:, None, None], logits.slopes, 0.0))
        found = moments_at(logits, degrees, coordinates.moments, nats + more_nats, finer)
        return np.where(exist[:, None], found, np.nan)

    if not np.abs(at_corners.slopes).max() <= STEEPEST * (1 + 1e-9):
        return None
    return moments, nodes_of(at_corners, degrees, nats)


def _interpolated(
    moments: Moments, nodes: float, corners: np.ndarray, box: np.ndarray, tolerance: float
) -> Surface | None:
    """The table of moments over a box to the tolerance, or None. nodes: how many a sum takes."""
    dimension = len(box)
    most_points = MOST_SUMMED / nodes
    if max(FIRST_TERMS**dimension, 4 * LINES * MOST_TERMS[dimension]) > most_points:
        return None
    terms = np.array([_terms_along(moments, axis, dimension, tolerance / 8) for axis in range(dimension)])
    u = np.concatenate([corners, _probes(dimension)])
    exact = moments(u, 3.0, 1.3)
    while True:
        if terms.max() > MOST_TERMS[dimension] or math.prod(map(int, terms)) > most_points:
            return None
        series = _series(moments, terms)
        if not np.isfinite(series).all():
            return None
        short = np.array([_tail(series, axis) > tolerance / 8 for axis in range(dimension)])
        if not short.any():
            for sharper in range(SHARPER):
                found = _factored(series, tolerance / 2**sharper)
                error = float(np.abs(found.at(u) - exact).max())
                if error <= tolerance / 2:
                    table = found.table(box)
                    return Surface((), (), True, table, found.size, error, len(u)) if found.fits else None
            short[:] = True  # the last coefficients happen to be small, and further ones are not
        terms = np.where(short, np.ceil(GROWTH * terms).astype(int), terms)


def _probes(dimension: int) -> np.ndarray:
    """PROBES points of the cube from −1 to 1, half of them dense at its faces."""
    generator = np.random.default_rng(11)
    u = generator.uniform(-1, 1, (PROBES, dimension))
    u[: PROBES // 2] = np.cos(np.pi * generator.uniform(0, 1, (PROBES // 2, dimension)))
    return u


def _chebyshev_points(count: int) -> np.ndarray:
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def _terms_along(moments: Moments, axis: int, dimension: int, tolerance: float) -> int:
    """How many terms along an axis suffice on a few lines along it, half of which are edges of the cube.

    One more than the most is the answer where none do, or where the moments are not numbers.
    """
    lines = np.random.default_rng(5).uniform(-1, 1, (LINES, dimension))
    lines[: LINES // 2] = np.sign(lines[: LINES // 2])
    terms, most = FIRST_TERMS, MOST_TERMS[dimension]
    while terms <= most:
        u = np.repeat(lines[:, None], terms, axis=1)
        u[:, :, axis] = _chebyshev_points(terms)
        series = dctn(moments(u.reshape(-1, dimension)).reshape(LINES, terms, -1), type=2, axes=[1]) / terms
        if not np.isfinite(series).all():
            return most + 1
        if np.linalg.norm(series[:, -2:], axis=1).max() <= tolerance:
            break
        terms = math.ceil(GROWTH * terms)
    return min(terms, most + 1)


def _series(moments: Moments, terms: np.ndarray) -> np.ndarray:
    """The Chebyshev coefficients (*terms, moments) of the moments' interpolants."""
    grids = np.meshgrid(*map(_chebyshev_points, terms), indexing="ij")
    values = moments(np.stack([u.ravel() for u in grids], axis=1)).reshape(*terms, -1)
    series = dctn(values, type=2, axes=range(len(terms))) / math.prod(map(int, terms))
    for axis in range(len(terms)):
        series[(slice(None),) * axis + (0,)] /= 2
    return series


def _tail(series: np.ndarray, axis: int) -> float:
    """The norm of the last two coefficients along an axis, over all others, of the moment where it is largest."""
    last = np.take(series, [-2, -1], axis=axis)
    return float(np.sqrt((last**2).sum(axis=tuple(range(series.ndim - 1)))).max())


@dataclass(frozen=True)
class _Factored:
    """A series as Σ c_abc φ_a φ_b φ_c with few functions φ_r = Σ_n U_nr T_n along each of three axes.

    functions: U (terms, functions) of each axis, with rows of zeros up to whole pieces. core: c (·, ·, ·, moments),
    with zeros where its rows have been cut. A missing axis comes first and has the function one.
    """

    functions: tuple[np.ndarray, ...]
    core: np.ndarray

    @property
    def fits(self) -> bool:
        """Whether a kernel has room for so many functions."""
        return max(self.core.shape[:3]) <= MOST_FUNCTIONS

    @property
    def size(self) -> int:
        """The number of coefficients."""
        return sum(U.size for U in self.functions) + PIECE * int(self._pieces().sum())

    def at(self, u: np.ndarray) -> np.ndarray:
        """The moments (N, moments) at points u (N, n) of the cube from −1 to 1."""
        angles = np.arccos(np.concatenate([np.zeros((len(u), 3 - u.shape[1])), u], axis=1))
        a, b, c = (
            np.cos(angle[:, None] * np.arange(len(U))) @ U for angle, U in zip(angles.T, self.functions, strict=True)
        )
        return np.einsum("na,nb,nc,abcm->nm", a, b, c, self.core, optimize=True)

    def table(self, box: np.ndarray) -> np.ndarray:
        """The table that `kernels.generate.templates.surface` reads."""
        sizes = [n for U in self.functions for n in (U.shape[1], len(U) // PIECE)]
        parts = [box.ravel(), np.array(sizes, float), *(U.T.ravel() for U in self.functions)]
        pieces = self._pieces()
        rows, columns, functions, moments = self.core.shape
        padded = np.pad(self.core, ((0, 0), (0, 0), (0, -functions % PIECE), (0, 0)))
        for m in range(moments):
            parts.append(pieces[:, :, m].ravel().astype(float))
            parts += [padded[i, j, : PIECE * pieces[i, j, m], m] for i in range(rows) for j in range(columns)]
        return np.concatenate(parts)

    def _pieces(self) -> np.ndarray:
        """How many pieces of PIECE coefficients each row of each moment has: (·, ·, moments)."""
        used = self.core != 0
        last = used.shape[2] - np.argmax(used[:, :, ::-1], axis=2)
        return np.where(used.any(axis=2), -(-last // PIECE), 0)


def _factored(series: np.ndarray, level: float) -> _Factored:
    """The series with as few functions along each axis as leave out a part of norm `level`.

    Of the coefficients in these functions, those at the end of a row that are below a thirtieth of the level are left
    out too.
    """
    dimension = series.ndim - 1
    one = np.pad(np.ones((1, 1)), ((0, PIECE - 1), (0, 0)))
    core, functions = series, [one] * (3 - dimension)
    for axis in range(dimension):
        along = np.moveaxis(series, axis, 0).reshape(series.shape[axis], -1)
        vectors, sizes, _ = np.linalg.svd(along, full_matrices=False)
        left_out = np.sqrt(np.cumsum(sizes[::-1] ** 2)[::-1])
        kept = vectors[:, : max(1, int((left_out > level).sum()))]
        core = np.moveaxis(np.tensordot(kept.T, np.moveaxis(core, axis, 0), 1), 0, axis)
        functions.append(np.pad(kept, ((0, -len(kept) % PIECE), (0, 0))))
    core = core.reshape((1,) * (3 - dimension) + core.shape)
    largest_from_here = np.maximum.accumulate(np.abs(core)[:, :, ::-1], axis=2)[:, :, ::-1]
    return _Factored(tuple(functions), np.where(largest_from_here > level / 30, core, 0.0))
