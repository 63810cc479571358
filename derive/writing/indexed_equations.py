"""The flow for any number K of modes and L of components: rates as sums over components j, l and modes k, l.

The averages, such as E_i[ρ_j], are free symbols here and have the names of the derivation. `indexed_equations` writes
the rates for a setting's manifold, scales and learned parameters. `indexed_instances` expands the sums for a
derivation's own K and L, where each rate can be compared with the derived rate.

Let u_ij = (a_j − a_i)/σ_j². Stein's lemma gives

    E_i[ρ_j (x − a_i)] = σ_i² Σ_l E_i[ρ_j ρ_l] (u_ij − u_il).

The average score of a mixture, and the average of the score along the deviation x − a_i, are then

    E_i[∇ log q] = Σ_j ρ̂_ij u_ij,
    E_i[(x − a_i)·∇ log q] = σ_i² Σ_{j<l} E_i[ρ_j ρ_l] ‖u_ij − u_il‖² − σ_i² Σ_j E_i[ρ_j ‖x − a_i‖²/σ_i²]/σ_j²,

with the shares ρ̂_ij = E_i[ρ_j] − σ_i² Σ_{l≠j} E_i[ρ_j ρ_l] (1/σ_j² − 1/σ_l²). So unequal scales change only the
shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp

from derive.objects.mixtures import DIMENSION, Mixture
from derive.objects.notation import tex
from derive.objects.objective import Setting
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA
from derive.writing.indexed_sums import Entry, SquaredNorm, SumOver, SumOverOthers, SumOverPairs, VectorEntry

COMPONENTS, MODES = sp.symbols("L K", integer=True, positive=True)
I, J, K, L, N = sp.symbols("i j k l n", integer=True, positive=True)


@dataclass(frozen=True)
class IndexedEquation:
    """The equation left = factor · (Σ coefficient · part), for every value of the free indices.

    Attributes
    ----------
    left : Entry
        The left-hand side as an entry of its family.
    rate : bool
        Whether the left-hand side is the time derivative of that entry.
    free : tuple
        (index, size) pairs.
    factor : Expr
        The common factor.
    parts : tuple
        (coefficient, part) pairs in reading order.
    tangent : bool
        Whether the sum is projected on the sphere's tangent space at a_i.
    """

    left: Entry
    rate: bool
    free: tuple[tuple[sp.Symbol, sp.Symbol], ...]
    factor: sp.Expr
    parts: tuple[tuple[sp.Expr, sp.Expr], ...]
    tangent: bool = False

    __repr__ = short_repr

    @property
    def value(self) -> sp.Expr:
        """The right-hand side before the projection."""
        return self.factor * sp.Add(*(coefficient * part for coefficient, part in self.parts))

    def plain(self) -> str:
        """Return the equation in plain text."""
        head = f"d{self.left}/dt" if self.rate else str(self.left)
        if not self.parts:
            return f"{head} = 0"
        body = "".join(_signed(c, p, _in_plain, "*") for c, p in self.parts).removeprefix(" + ").removeprefix(" ")
        if self.factor == 1:
            return f"{head} = {body}"
        return f"{head} = {_in_plain(self.factor)}*{'P_i*' if self.tangent else ''}({body})"

    def latex_left(self) -> str:
        """Return the LaTeX of the left-hand side."""
        return rf"\frac{{d{_in_tex(self.left)}}}{{dt}}" if self.rate else _in_tex(self.left)

    def latex_terms(self) -> list[str]:
        """Return the LaTeX of the right-hand side in pieces, between which a line may be broken."""
        if not self.parts:
            return ["0"]
        pieces = [_signed(c, p, _in_tex, r"\,").strip() for c, p in self.parts]
        pieces[0] = pieces[0].removeprefix("+ ")
        if self.factor != 1:
            pieces[0] = rf"{_in_tex(self.factor)}\,{'P_{i}' if self.tangent else ''}\biggl[ {pieces[0]}"
            pieces[-1] += r" \biggr]"
        return pieces


def _in_plain(expression: sp.Expr) -> str:
    return sp.sstr(expression, order="none")


def _in_tex(expression: sp.Expr) -> str:
    return tex(expression, order="none")


def _in_order(*terms: sp.Expr) -> sp.Expr:
    """Return a sum that is printed in the given order."""
    return sp.Add(*terms, evaluate=False)


def _signed(coefficient: sp.Expr, part: sp.Expr, write: Callable[[sp.Expr], str], times: str) -> str:
    negative = coefficient.could_extract_minus_sign()
    size = -coefficient if negative else coefficient
    body = f"({write(part)})" if part.is_Add and size != 1 else write(part)
    return f" {'-' if negative else '+'} {body if size == 1 else f'{write(size)}{times}{body}'}"


@dataclass(frozen=True)
class _Side:
    """What the sums over one mixture are made of.

    `scale` gives σ_j of an index; `unequal` tells whether the scales differ or are learned.
    """

    star: str
    letter: str
    index: sp.Symbol
    size: sp.Symbol
    scale: Callable[[sp.Expr], sp.Expr]
    unequal: bool

    def mean(self, index: sp.Expr) -> Entry:
        return VectorEntry(self.letter, index)

    def average(self, *indices: sp.Expr) -> Entry:
        return Entry("rho" + self.star, I, *indices)

    def share(self, index: sp.Expr) -> Entry:
        """Return the weight of a component's pull."""
        return Entry(("share" if self.unequal else "rho") + self.star, I, index)


Linear = Callable[[Entry], sp.Expr]
"""A function from a vector entry to what stands for it: the entry itself, or its inner product with a given vector."""


def indexed_equations(setting: Setting) -> tuple[IndexedEquation, ...]:
    """Write the flow for any number of modes and components.

    Parameters
    ----------
    setting : Setting
        The mixtures, manifold and learned parameters; only their kinds matter, not the numbers K and L.

    Returns
    -------
    tuple of IndexedEquation
        Definitions first, then the rates of the means and overlaps, and those of the weights and scales if these are
        learned.

    References
    ----------
    Soletskyi, Gabrié and Loureiro, arXiv:2410.13300; Fogliani, Loureiro and Gabrié, arXiv:2602.12923. The sums are
    written anew here; their values are compared with the derivation's own equations.

    Examples
    --------
    >>> import annealvi
    >>> derivation = annealvi.derive_problem(annealvi.Problem())
    >>> print(annealvi.indexed_equations(derivation.setting)[0].plain())
    da_i/dt = -w_i*P_i*(sum_j[rho_ij*a_j] - beta*sum_k[rho_star_ik*nu_k])
    """
    proposal = _side(setting.proposal, "", "a", J, COMPONENTS, "scales" in setting.learn)
    target = _side(setting.target, "_star", "nu", K, MODES)
    flow = _means(proposal, target, setting.manifold == "sphere") if "means" in setting.learn else _means_at_rest()
    weights = _weights(proposal, target) if "weights" in setting.learn else []
    scales = _scales(proposal, target) if "scales" in setting.learn else []
    return (*flow, *weights, *scales)


def _side(mixture: Mixture, star: str, letter: str, index: sp.Symbol, size: sp.Symbol, learned: bool = False) -> _Side:
    """Describe a mixture: scales that differ or are learned have an index, and a common scale has none."""
    common = mixture.scales[0]
    indexed = learned or len(set(mixture.scales)) > 1

    def scale(at: sp.Expr) -> sp.Expr:
        return Entry("sigma" + star, at) if indexed else common

    return _Side(star, letter, index, size, scale, indexed)


def _means(proposal: _Side, target: _Side, sphere: bool) -> list[IndexedEquation]:
    components, modes, others = (I, COMPONENTS), (N, MODES), (N, COMPONENTS)
    factor = -Entry("w", I)

    def pulls(linear: Linear) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """Return E_i[∇ log q] − β E_i[∇ log p*] in parts; on the sphere P_i a_i = 0, so a_i drops out."""
        return tuple(
            (
                sign,
                SumOver(
                    side.share(side.index) * _from_own(linear, side, sphere) / side.scale(side.index) ** 2,
                    side.index,
                    side.size,
                ),
            )
            for side, sign in ((proposal, sp.S.One), (target, -BETA))
        )

    def tangent(inner: Linear) -> Linear:
        """Return inner products of the projected vector."""
        own = VectorEntry("a", I)
        return lambda entry: (
            _in_order(inner(entry), -_with_own(entry) * inner(own) / Entry("Q", I, I)) if sphere else inner(entry)
        )

    return [
        *(_shares(side, proposal.scale(I)) for side in (proposal, target) if side.unequal),
        IndexedEquation(VectorEntry("a", I), True, (components,), factor, pulls(lambda entry: entry), tangent=sphere),
        IndexedEquation(Entry("M", I, N), True, (components, modes), factor, pulls(tangent(_with_mode))),
        IndexedEquation(Entry("D", I, N), False, (components, others), factor, pulls(tangent(_with_mean))),
        IndexedEquation(
            Entry("Q", I, N),
            True,
            (components, others),
            sp.S.One,
            ((sp.S.One, Entry("D", I, N)), (sp.S.One, Entry("D", N, I))),
        ),
    ]


def _means_at_rest() -> list[IndexedEquation]:
    frees = {"M": MODES, "Q": COMPONENTS}
    return [
        IndexedEquation(Entry(name, I, N), True, ((I, COMPONENTS), (N, size)), sp.S.One, ())
        for name, size in frees.items()
    ]


def _from_own(linear: Linear, side: _Side, sphere: bool) -> sp.Expr:
    mean = linear(side.mean(side.index))
    return mean if sphere else _in_order(mean, -linear(VectorEntry("a", I)))


def _shares(side: _Side, own_scale: sp.Expr) -> IndexedEquation:
    j, l = side.index, L
    lack = side.average(j, l) * _in_order(side.scale(j) ** -2, -(side.scale(l) ** -2))
    parts = ((sp.S.One, side.average(j)), (-(own_scale**2), SumOverOthers(lack, l, j, side.size)))
    return IndexedEquation(side.share(j), False, ((I, COMPONENTS), (j, side.size)), sp.S.One, parts)


def _scales(proposal: _Side, target: _Side) -> list[IndexedEquation]:
    """Write dσ_i/dt by E_i[(x − a_i)·∇ log density] of both mixtures."""
    parts = (*_along_the_deviation(proposal, sp.S.One), *_along_the_deviation(target, -BETA))
    rate = IndexedEquation(Entry("sigma", I), True, ((I, COMPONENTS),), -Entry("w", I) * proposal.scale(I) ** 3, parts)
    return [*(_pull(side) for side in (proposal, target) if side.unequal), rate]


def _pull(side: _Side) -> IndexedEquation:
    from_own = _in_order(side.mean(side.index), -VectorEntry("a", I))
    parts = ((sp.S.One, from_own / side.scale(side.index) ** 2),)
    return IndexedEquation(
        VectorEntry("u" + side.star, I, side.index), False, ((I, COMPONENTS), (side.index, side.size)), sp.S.One, parts
    )


def _along_the_deviation(side: _Side, sign: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    """Return E_i[(x − a_i)·∇ log density]/σ_i² in parts."""
    j, l = side.index, L
    if side.unequal:
        difference = _in_order(VectorEntry("u" + side.star, I, j), -VectorEntry("u" + side.star, I, l))
        spread = side.average(j, l) * SquaredNorm(difference)
        own = SumOver(Entry("S" + side.star, I, j) / side.scale(j) ** 2, j, side.size)
    else:
        spread = side.average(j, l) * SquaredNorm(_in_order(side.mean(j), -side.mean(l))) / side.scale(j) ** 4
        own = DIMENSION / side.scale(j) ** 2
    return [(sign, SumOverPairs(spread, j, l, side.size)), (-sign, own)]


def _weights(proposal: _Side, target: _Side) -> list[IndexedEquation]:
    """Write dw_i/dt through the softmax, and the energies that drive it."""
    weight, energy, mean = Entry("w", I), Entry("e", I), sp.Symbol("e_mean", real=True)
    other = Entry("w", J) ** 2 * _in_order(Entry("e", J), -mean)
    flow = ((sp.S.One, weight * _in_order(energy, -mean)), (sp.S.NegativeOne, SumOver(other, J, COMPONENTS)))
    last = target.scale(MODES)
    parts = [(sp.S.One, sp.log(weight)), (sp.S.NegativeOne, Entry("ell", I))]
    of_target = [Entry("ell_star", I), Entry("Q", I, I) / (2 * last**2), -Entry("M", I, MODES) / last**2]
    if proposal.unequal:
        parts.append((sp.S.NegativeOne, DIMENSION * sp.log(proposal.scale(I))))
        of_target.append(DIMENSION * proposal.scale(I) ** 2 / (2 * last**2))
    parts.append((BETA, _in_order(*of_target)))
    return [
        IndexedEquation(weight, True, ((I, COMPONENTS),), -weight, flow),
        IndexedEquation(energy, False, ((I, COMPONENTS),), sp.S.One, tuple(parts)),
        IndexedEquation(
            Entry("e_mean"), False, (), sp.S.One, ((sp.S.One, SumOver(Entry("w", J) * Entry("e", J), J, COMPONENTS)),)
        ),
    ]


def _with_own(entry: Entry) -> Entry:
    """Return the inner product with a_i."""
    (index,) = entry.indices
    return Entry("Q", I, index) if entry.family == "a" else Entry("M", I, index)


def _with_mean(entry: Entry) -> Entry:
    """Return the inner product with a_n."""
    (index,) = entry.indices
    return Entry("Q", index, N) if entry.family == "a" else Entry("M", N, index)


def _with_mode(entry: Entry) -> Entry:
    """Return the inner product with ν_n."""
    (index,) = entry.indices
    return Entry("M", index, N) if entry.family == "a" else Entry("Gamma", index, N)
