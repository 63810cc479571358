"""The closed rates for any numbers of modes and components, retyped as loops over vectors, without any import from the
package.

A `Point` holds random vectors and parameters, and a random number for every average over a component. The rates are
polynomials in the averages, so that two forms of them that agree at random numbers for the averages are equal. The
averages obey only those identities on which the derivation relies: Σ_j E_i[ρ_j] = 1, Σ_j E_i[ρ_j ‖x − a_i‖²/σ_i²] = d,
the symmetry E_i[ρ_j ρ_l] = E_i[ρ_l ρ_j], and Σ_j w_j = 1.

With u_ij = (a_j − a_i)/σ_j², and the same with a star for the target,

    share_ij = E_i[ρ_j] − σ_i² Σ_l E_i[ρ_j ρ_l] (1/σ_j² − 1/σ_l²),
    ∇_i KL = w_i (Σ_j share_ij u_ij − β Σ_k share*_ik u*_ik),
    ∂KL/∂log σ_i = w_i σ_i² (T_i − β T*_i),   T_i = Σ_{j<l} E_i[ρ_j ρ_l] ‖u_ij − u_il‖² − Σ_j S_ij/σ_j²,
    e_i = log w_i − ℓ_i − d log σ_i + β (ℓ*_i + (‖a_i − ν_K‖² − ‖ν_K‖² + d σ_i²)/(2 σ*_K²)).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import mpmath
from mpmath import mpf

DIGITS = 40
Vector = list[mpf]


class Side:
    """One mixture: its means and scales, and the averages over each component i of its responsibilities.

    rho[i][j] is E_i[ρ_j], pair[i][j][l] is E_i[ρ_j ρ_l], S[i][j] is E_i[ρ_j ‖x − a_i‖²/σ_i²], and ell[i] is E_i[log ρ]
    of the sample's own component or of the last mode.
    """

    def __init__(self, rng: random.Random, size: int, components: int, space: int, d: mpf, scales: Sequence | None):
        self.size = size
        self.means = [[draw(rng) for _ in range(space)] for _ in range(size)]
        self.scales = [mpf(s) for s in scales] if scales is not None else [draw(rng) for _ in range(size)]
        self.rho = [of_total(mpf(1), rng, size) for _ in range(components)]
        self.S = [of_total(d, rng, size) for _ in range(components)]
        self.ell = [-draw(rng) if size > 1 else mpf(0) for _ in range(components)]
        self.pair = [[[mpf(1)] * size for _ in range(size)] for _ in range(components)]
        for rows, j, l in itertools.product(self.pair, range(size), range(size)):
            if size > 1 and j <= l:
                rows[j][l] = rows[l][j] = draw(rng)


class Point:
    """Random numbers for everything; `scales` and `scales_star` are given or random."""

    def __init__(
        self, K: int, L: int, seed: int = 0, scales: Sequence | None = None, scales_star: Sequence | None = None
    ):
        rng = random.Random(f"{K} {L} {seed}")
        with mpmath.workdps(DIGITS):
            self.d, self.beta = draw(rng), draw(rng)
            self.w = of_total(mpf(1), rng, L)
            space = K + L + 1
            self.q = Side(rng, L, L, space, self.d, scales)
            self.p = Side(rng, K, L, space, self.d, scales_star)

    def overlaps(self) -> dict[tuple, mpf]:
        """M_ik, Q_ij and Γ_kl by family and indices, which count from 1."""
        families = {"M": (self.q, self.p), "Q": (self.q, self.q), "Gamma": (self.p, self.p)}
        return {
            (name, i, j): mpmath.fdot(u, v)
            for name, (one, other) in families.items()
            for i, u in enumerate(one.means, 1)
            for j, v in enumerate(other.means, 1)
        }

    def averages(self) -> dict[tuple, mpf]:
        """The averages, weights and scales by family and indices, which count from 1."""
        found = {("w", i): w for i, w in enumerate(self.w, 1)}
        for side, star in ((self.q, ""), (self.p, "_star")):
            found |= {(f"sigma{star}", j): s for j, s in enumerate(side.scales, 1)}
            for i in range(len(self.w)):
                found[f"ell{star}", i + 1] = side.ell[i]
                for j in range(side.size):
                    found[f"rho{star}", i + 1, j + 1] = side.rho[i][j]
                    found[f"S{star}", i + 1, j + 1] = side.S[i][j]
                    found |= {(f"rho{star}", i + 1, j + 1, l + 1): side.pair[i][j][l] for l in range(side.size)}
        return found


def draw(rng: random.Random) -> mpf:
    return mpf(rng.getrandbits(130)) / 2**130 + mpf(1) / 2


def of_total(total: mpf, rng: random.Random, size: int) -> list[mpf]:
    parts = [draw(rng) for _ in range(size)]
    return [total * part / mpmath.fsum(parts) for part in parts]


def rates(point: Point, manifold: str, learn: Sequence[str]) -> dict[tuple, mpf]:
    """The rates ("M", i, k), ("Q", i, j), and ("w", i) and ("sigma", i) where learned; i, j, k count from 1."""
    with mpmath.workdps(DIGITS):
        a, nu, components = point.q.means, point.p.means, range(point.q.size)
        rest = [mpf(0)] * len(a[0])
        moves = [velocity(point, i, manifold) if "means" in learn else rest for i in components]
        found = {("M", i + 1, k + 1): mpmath.fdot(moves[i], nu[k]) for i in components for k in range(point.p.size)}
        for i in components:
            for j in components:
                found["Q", i + 1, j + 1] = mpmath.fdot(moves[i], a[j]) + mpmath.fdot(a[i], moves[j])
        if "weights" in learn:
            found |= {("w", i + 1): rate for i, rate in enumerate(weight_rates(point))}
        if "scales" in learn:
            found |= {("sigma", i + 1): scale_rate(point, i) for i in components}
        return found


def slope(side: Side, own: Vector, j: int) -> Vector:
    """u_ij, the slope of logit j at a mean a_i."""
    return [(x - y) / side.scales[j] ** 2 for x, y in zip(side.means[j], own, strict=True)]


def share(point: Point, side: Side, i: int, j: int) -> mpf:
    lack = mpf(0)
    for l in range(side.size):
        lack += side.pair[i][j][l] * (1 / side.scales[j] ** 2 - 1 / side.scales[l] ** 2)
    return side.rho[i][j] - point.q.scales[i] ** 2 * lack


def velocity(point: Point, i: int, manifold: str) -> Vector:
    """da_i/dt: minus the gradient, on the sphere without its part along a_i."""
    own = point.q.means[i]
    moved = [mpf(0)] * len(own)
    for side, factor in ((point.q, mpf(-1)), (point.p, point.beta)):
        for j in range(side.size):
            pull = point.w[i] * factor * share(point, side, i, j)
            moved = [x + pull * u for x, u in zip(moved, slope(side, own, j), strict=True)]
    if manifold == "euclidean":
        return moved
    radial = mpmath.fdot(moved, own) / mpmath.fdot(own, own)
    return [x - radial * y for x, y in zip(moved, own, strict=True)]


def energy(point: Point, i: int) -> mpf:
    """e_i, up to a constant that all components share."""
    own, last, scale = point.q.means[i], point.p.means[-1], point.p.scales[-1]
    far = mpmath.fsum((x - y) ** 2 for x, y in zip(own, last, strict=True)) - mpmath.fdot(last, last)
    of_target = point.p.ell[i] + (far + point.d * point.q.scales[i] ** 2) / (2 * scale**2)
    return mpmath.log(point.w[i]) - point.q.ell[i] - point.d * mpmath.log(point.q.scales[i]) + point.beta * of_target


def weight_rates(point: Point) -> list[mpf]:
    """dw_i/dt of a softmax whose logits descend along w_i (e_i − Σ_j w_j e_j)."""
    energies = [energy(point, i) for i in range(point.q.size)]
    mean = mpmath.fdot(point.w, energies)
    descents = [-w * (e - mean) for w, e in zip(point.w, energies, strict=True)]
    return [w * (y - mpmath.fdot(point.w, descents)) for w, y in zip(point.w, descents, strict=True)]


def scale_rate(point: Point, i: int) -> mpf:
    """dσ_i/dt, whose logarithm descends."""
    total = mpf(0)
    for side, factor in ((point.q, mpf(1)), (point.p, -point.beta)):
        slopes = [slope(side, point.q.means[i], j) for j in range(side.size)]
        for j, l in itertools.combinations(range(side.size), 2):
            apart = mpmath.fsum((x - y) ** 2 for x, y in zip(slopes[j], slopes[l], strict=True))
            total += factor * side.pair[i][j][l] * apart
        for j in range(side.size):
            total -= factor * side.S[i][j] / side.scales[j] ** 2
    return -(point.q.scales[i] ** 3) * point.w[i] * total
