"""The flow for any number K of modes and L of components: rates as sums over components j, l and modes k, l.

The averages are free symbols here: E_i[ρ_j] and its kin, named as in the derivation. `indexed_equations` writes the rates for a
setting's manifold, scales and learned parameters; `instantiate` expands the sums for a derivation's own K and L, where each rate can be
compared with the derived one.

With u_ij = (a_j − a_i)/σ_j² and Stein's lemma for E_i[ρ_j (x − a_i)] = σ_i² Σ_l E_i[ρ_j ρ_l] (u_ij − u_il), the score of a mixture is
E_i[∇ log q] = Σ_j ρ̂_ij u_ij with the shares ρ̂_ij = E_i[ρ_j] − σ_i² Σ_{l≠j} E_i[ρ_j ρ_l] (1/σ_j² − 1/σ_l²): unequal scales change the
shares and nothing else. Along the deviation it is E_i[(x − a_i)·∇ log q] = σ_i² Σ_{j<l} E_i[ρ_j ρ_l] ‖u_ij − u_il‖² −
σ_i² Σ_j E_i[ρ_j ‖x − a_i‖²/σ_i²]/σ_j².
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.derivation import Derivation
from derive.flow import close
from derive.mixtures import DIMENSION, Mixture
from derive.notation import name_tex, tex
from derive.objective import Setting
from derive.system import BETA
from derive.vectors import Inner, Vector, VectorSymbol

COMPONENTS, MODES = sp.symbols("L K", integer=True, positive=True)
I, J, K, L, N = sp.symbols("i j k l n", integer=True, positive=True)


class Entry(sp.Expr):
    """One member of a family of symbols, by its indices: w_i, Q_ij, or with a group of its own for the last two, rho_i_jl."""

    is_commutative = True
    is_real = True

    def __new__(cls, family: str | sp.Symbol, *indices: sp.Expr) -> Entry:
        return super().__new__(cls, sp.Symbol(str(family)), *map(sp.sympify, indices))

    @classmethod
    def class_key(cls) -> tuple:
        """Sorted, and so printed, like a symbol."""
        return 2, 0, cls.__name__

    @property
    def family(self) -> str:
        return self.args[0].name

    @property
    def indices(self) -> tuple[sp.Expr, ...]:
        return self.args[1:]

    @property
    def name(self) -> str:
        return "_".join([self.family, *(group for group in self._groups() if group)])

    def _groups(self) -> tuple[str, str]:
        written = [str(index) for index in self.indices]
        return (written[0], "".join(written[1:])) if len(written) == 3 else ("".join(written), "")

    def _latex(self, printer: LatexPrinter) -> str:
        head = self.family.removesuffix("_star")
        starred = head != self.family
        body = name_tex(_HEADS.get(head, head), starred, *self._groups())
        return f"{{{body}}}" if starred else body  # a group can have an exponent

    def _sympystr(self, printer: StrPrinter) -> str:
        return self.name


_HEADS = {"nu": r"\nu", "share": r"\hat{\rho}"}


class VectorEntry(Entry):
    """A vector by its indices; it stands behind its coefficient."""

    @classmethod
    def class_key(cls) -> tuple:
        return 2, 1, cls.__name__


class SumOver(sp.Expr):
    """Σ of a term over an index from 1 to a size."""

    is_commutative = True
    is_real = True

    def __new__(cls, term: sp.Expr, index: sp.Symbol, size: sp.Expr) -> SumOver:
        return super().__new__(cls, term, index, size)

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        term, index, size = self.args
        return (term.free_symbols - {index}) | size.free_symbols

    def expanded(self) -> sp.Expr:
        """Written out, once the size is a number."""
        term, index, size = self.args
        return sp.Add(*(term.xreplace({index: sp.Integer(n)}) for n in range(1, int(size) + 1)))

    def _latex(self, printer: LatexPrinter) -> str:
        term, index, size = self.args
        return rf"\sum_{{{printer.doprint(index)}=1}}^{{{printer.doprint(size)}}} {_one_term(term, printer)}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sum_{self.args[1]}[{printer.doprint(self.args[0])}]"


class SumOverPairs(sp.Expr):
    """Σ of a term over two indices with 1 ≤ first < second ≤ size."""

    is_commutative = True
    is_real = True

    def __new__(cls, term: sp.Expr, first: sp.Symbol, second: sp.Symbol, size: sp.Expr) -> SumOverPairs:
        return super().__new__(cls, term, first, second, size)

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        term, first, second, size = self.args
        return (term.free_symbols - {first, second}) | size.free_symbols

    def expanded(self) -> sp.Expr:
        """Written out, once the size is a number."""
        term, first, second, size = self.args
        pairs = itertools.combinations(range(1, int(size) + 1), 2)
        return sp.Add(*(term.xreplace({first: sp.Integer(a), second: sp.Integer(b)}) for a, b in pairs))

    def _latex(self, printer: LatexPrinter) -> str:
        term, first, second, size = self.args
        return rf"\sum_{{1 \le {first} < {second} \le {size}}} {_one_term(term, printer)}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sum_{self.args[1]}<{self.args[2]}[{printer.doprint(self.args[0])}]"


class SumOverOthers(sp.Expr):
    """Σ of a term over an index from 1 to a size, without one value."""

    is_commutative = True
    is_real = True

    def __new__(cls, term: sp.Expr, index: sp.Symbol, without: sp.Expr, size: sp.Expr) -> SumOverOthers:
        return super().__new__(cls, term, index, without, size)

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        term, index, without, size = self.args
        return (term.free_symbols - {index}) | without.free_symbols | size.free_symbols

    def expanded(self) -> sp.Expr:
        """Written out, once the size and the value left out are numbers."""
        term, index, without, size = self.args
        return sp.Add(*(term.xreplace({index: sp.Integer(n)}) for n in range(1, int(size) + 1) if n != without))

    def _latex(self, printer: LatexPrinter) -> str:
        term, index, without, size = self.args
        return rf"\sum_{{\substack{{{index}=1\\{index} \ne {without}}}}}^{{{size}}} {_one_term(term, printer)}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sum_{self.args[1]}!={self.args[2]}[{printer.doprint(self.args[0])}]"


def _one_term(term: sp.Expr, printer: LatexPrinter) -> str:
    written = printer.doprint(term)
    return rf"\left({written}\right)" if term.is_Add else written


class SquaredNorm(sp.Expr):
    """‖u‖² of a combination of vector entries."""

    is_commutative = True
    is_real = True

    def __new__(cls, vector: sp.Expr) -> SquaredNorm:
        return super().__new__(cls, vector)

    def _latex(self, printer: LatexPrinter) -> str:
        return rf"\left\|{printer.doprint(self.args[0])}\right\|^{{2}}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"|{printer.doprint(self.args[0])}|^2"


@dataclass(frozen=True)
class IndexedEquation:
    """left = factor · (Σ coefficient · part), for every value of the free indices.

    left: the left-hand side as an entry of its family. rate: whether it is the time derivative of that entry.
    free: (index, size) pairs. tangent: whether the sum is projected on the sphere's tangent space at a_i. parts: (coefficient, part)
    pairs in the order in which they are read.
    """

    left: Entry
    rate: bool
    free: tuple[tuple[sp.Symbol, sp.Symbol], ...]
    factor: sp.Expr
    parts: tuple[tuple[sp.Expr, sp.Expr], ...]
    tangent: bool = False

    @property
    def value(self) -> sp.Expr:
        """The right-hand side before the projection."""
        return self.factor * sp.Add(*(coefficient * part for coefficient, part in self.parts))

    def plain(self) -> str:
        head = f"d{self.left}/dt" if self.rate else str(self.left)
        if not self.parts:
            return f"{head} = 0"
        body = "".join(_signed(c, p, _in_plain, "*") for c, p in self.parts).removeprefix(" + ").removeprefix(" ")
        if self.factor == 1:
            return f"{head} = {body}"
        return f"{head} = {_in_plain(self.factor)}*{'P_i*' if self.tangent else ''}({body})"

    def latex_left(self) -> str:
        return rf"\frac{{d{_in_tex(self.left)}}}{{dt}}" if self.rate else _in_tex(self.left)

    def latex_terms(self) -> list[str]:
        """LaTeX of the right-hand side, to be broken between the terms."""
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
    """A sum that is read in the order given."""
    return sp.Add(*terms, evaluate=False)


def _signed(coefficient: sp.Expr, part: sp.Expr, write: Callable[[sp.Expr], str], times: str) -> str:
    negative = coefficient.could_extract_minus_sign()
    size = -coefficient if negative else coefficient
    body = f"({write(part)})" if part.is_Add and size != 1 else write(part)
    return f" {'-' if negative else '+'} {body if size == 1 else f'{write(size)}{times}{body}'}"


@dataclass(frozen=True)
class _Side:
    """What the sums over one mixture are made of. scale: σ_j of an index. unequal: whether scales differ or are learned."""

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
        """What weighs a component's pull."""
        return Entry(("share" if self.unequal else "rho") + self.star, I, index)


Linear = Callable[[Entry], sp.Expr]
"""What stands for a vector entry: itself, or its inner product with a given vector."""


def indexed_equations(setting: Setting) -> tuple[IndexedEquation, ...]:
    """What the rates are defined by, and the rates of the means and overlaps, and of the weights and scales if learned."""
    proposal = _side(setting.proposal, "", "a", J, COMPONENTS, "scales" in setting.learn)
    target = _side(setting.target, "_star", "nu", K, MODES)
    flow = _means(proposal, target, setting.manifold == "sphere") if "means" in setting.learn else _means_at_rest()
    weights = _weights(proposal, target) if "weights" in setting.learn else []
    scales = _scales(proposal, target) if "scales" in setting.learn else []
    return (*flow, *weights, *scales)


def _side(mixture: Mixture, star: str, letter: str, index: sp.Symbol, size: sp.Symbol, learned: bool = False) -> _Side:
    """Scales that differ or are learned, by index; a common one without."""
    common = mixture.scales[0]
    indexed = learned or len(set(mixture.scales)) > 1

    def scale(at: sp.Expr) -> sp.Expr:
        return Entry("sigma" + star, at) if indexed else common

    return _Side(star, letter, index, size, scale, indexed)


def _means(proposal: _Side, target: _Side, sphere: bool) -> list[IndexedEquation]:
    components, modes, others = (I, COMPONENTS), (N, MODES), (N, COMPONENTS)
    factor = -Entry("w", I)

    def pulls(linear: Linear) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """E_i[∇ log q] − β E_i[∇ log p*] in parts; P_i a_i = 0 takes a_i out of what is projected."""
        return tuple(
            (sign, SumOver(side.share(side.index) * _from_own(linear, side, sphere) / side.scale(side.index) ** 2, side.index, side.size))
            for side, sign in ((proposal, sp.S.One), (target, -BETA))
        )

    def tangent(inner: Linear) -> Linear:
        """Inner products of the projected vector."""
        own = VectorEntry("a", I)
        return lambda entry: _in_order(inner(entry), -_with_own(entry) * inner(own) / Entry("Q", I, I)) if sphere else inner(entry)

    return [
        *(_shares(side, proposal.scale(I)) for side in (proposal, target) if side.unequal),
        IndexedEquation(VectorEntry("a", I), True, (components,), factor, pulls(lambda entry: entry), tangent=sphere),
        IndexedEquation(Entry("M", I, N), True, (components, modes), factor, pulls(tangent(_with_mode))),
        IndexedEquation(Entry("D", I, N), False, (components, others), factor, pulls(tangent(_with_mean))),
        IndexedEquation(
            Entry("Q", I, N), True, (components, others), sp.S.One, ((sp.S.One, Entry("D", I, N)), (sp.S.One, Entry("D", N, I)))
        ),
    ]


def _means_at_rest() -> list[IndexedEquation]:
    frees = {"M": MODES, "Q": COMPONENTS}
    return [IndexedEquation(Entry(name, I, N), True, ((I, COMPONENTS), (N, size)), sp.S.One, ()) for name, size in frees.items()]


def _from_own(linear: Linear, side: _Side, sphere: bool) -> sp.Expr:
    mean = linear(side.mean(side.index))
    return mean if sphere else _in_order(mean, -linear(VectorEntry("a", I)))


def _shares(side: _Side, own_scale: sp.Expr) -> IndexedEquation:
    j, l = side.index, L
    lack = side.average(j, l) * _in_order(side.scale(j) ** -2, -(side.scale(l) ** -2))
    parts = ((sp.S.One, side.average(j)), (-(own_scale**2), SumOverOthers(lack, l, j, side.size)))
    return IndexedEquation(side.share(j), False, ((I, COMPONENTS), (j, side.size)), sp.S.One, parts)


def _scales(proposal: _Side, target: _Side) -> list[IndexedEquation]:
    """dσ_i/dt by E_i[(x − a_i)·∇ log density] of both mixtures."""
    parts = (*_along_the_deviation(proposal, sp.S.One), *_along_the_deviation(target, -BETA))
    rate = IndexedEquation(Entry("sigma", I), True, ((I, COMPONENTS),), -Entry("w", I) * proposal.scale(I) ** 3, parts)
    return [*(_pull(side) for side in (proposal, target) if side.unequal), rate]


def _pull(side: _Side) -> IndexedEquation:
    from_own = _in_order(side.mean(side.index), -VectorEntry("a", I))
    parts = ((sp.S.One, from_own / side.scale(side.index) ** 2),)
    return IndexedEquation(VectorEntry("u" + side.star, I, side.index), False, ((I, COMPONENTS), (side.index, side.size)), sp.S.One, parts)


def _along_the_deviation(side: _Side, sign: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    """E_i[(x − a_i)·∇ log density]/σ_i² in parts."""
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
    """dw_i/dt through the softmax, and the energies that drive it."""
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
        IndexedEquation(Entry("e_mean"), False, (), sp.S.One, ((sp.S.One, SumOver(Entry("w", J) * Entry("e", J), J, COMPONENTS)),)),
    ]


def _with_own(entry: Entry) -> Entry:
    """Inner product with a_i."""
    (index,) = entry.indices
    return Entry("Q", I, index) if entry.family == "a" else Entry("M", I, index)


def _with_mean(entry: Entry) -> Entry:
    """Inner product with a_n."""
    (index,) = entry.indices
    return Entry("Q", index, N) if entry.family == "a" else Entry("M", N, index)


def _with_mode(entry: Entry) -> Entry:
    """Inner product with ν_n."""
    (index,) = entry.indices
    return Entry("M", index, N) if entry.family == "a" else Entry("Gamma", index, N)


def instantiate(indexed: tuple[IndexedEquation, ...], derivation: Derivation) -> dict[str, sp.Expr | Vector]:
    """Every equation at every value of its free indices, in the derivation's own symbols, by the derivation's labels.

    `velocity_i` is a vector; `dM_ik`, `dQ_ij`, `dw_i`, `dsigma_i` and the energies `e_i`, `e_mean` are scalars.
    """
    setting = derivation.setting
    sizes = {COMPONENTS: setting.proposal.size, MODES: setting.target.size}
    names = dict(derivation.overlaps.names)
    values: dict[str, sp.Expr | Vector] = {}
    known: dict[Entry, sp.Expr] = {}
    for equation in indexed:
        for point in itertools.product(*(range(1, sizes[size] + 1) for _, size in equation.free)):
            at = {index: sp.Integer(n) for (index, _), n in zip(equation.free, point, strict=True)}
            at |= {symbol: sp.Integer(size) for symbol, size in sizes.items()}
            left = equation.left.xreplace(at)
            value = _expanded(equation.value.xreplace(at)).xreplace(known)
            if not equation.rate and left.family in _OWN_DEFINITIONS:
                known[left] = value
                continue
            written = _in_symbols(value, setting)
            if left.family == "a":
                values[f"velocity_{point[0]}"] = _velocity(written, setting.proposal.means[point[0] - 1], equation.tangent)
            elif left.family != "Q" or point[0] <= point[1]:
                values[("d" if equation.rate else "") + left.name] = close(written, names)
    return values


_OWN_DEFINITIONS = ("share", "share_star", "u", "u_star", "D")
"""Families that only the indexed equations use."""


def _expanded(expression: sp.Expr) -> sp.Expr:
    sums = expression.atoms(SumOver, SumOverOthers, SumOverPairs)
    return expression.xreplace({node: node.expanded() for node in sums})


def _in_symbols(expression: sp.Expr, setting: Setting) -> sp.Expr:
    """Entries by the derivation's symbols, and squared norms by inner products."""
    replaced = expression.xreplace({entry: _symbol(entry, setting) for entry in expression.atoms(Entry)})
    norms = {norm: _combination(norm.args[0]) for norm in replaced.atoms(SquaredNorm)}
    return replaced.xreplace({norm: vector.dot(vector) for norm, vector in norms.items()})


def _symbol(entry: Entry, setting: Setting) -> sp.Expr:
    first = int(entry.indices[0]) if entry.indices else 0
    vectors_of = {"a": setting.proposal.means, "nu": setting.target.means, "w": setting.proposal.weights}
    known = {**vectors_of, "sigma": setting.proposal.scales, "sigma_star": setting.target.scales}
    if entry.family in known:
        return known[entry.family][first - 1]
    mixture = setting.target if entry.family.endswith("_star") else setting.proposal
    if mixture.size == 1:
        certain = {"rho": sp.S.One, "S": DIMENSION, "ell": sp.S.Zero}
        if entry.family.removesuffix("_star") in certain:
            return certain[entry.family.removesuffix("_star")]
    if entry.family in ("Q", "Gamma"):
        return sp.Symbol(Entry(entry.family, *sorted(entry.indices)).name, real=True)
    if len(entry.indices) == 3:
        own, *pair = entry.indices
        return sp.Symbol(Entry(entry.family, own, *sorted(pair)).name, real=True)
    return sp.Symbol(entry.name, real=True)


def _combination(expression: sp.Expr) -> Vector:
    """A linear expression in vector symbols as a vector."""
    expanded = sp.expand(expression)
    return Vector({symbol: expanded.coeff(symbol) for symbol in sorted(expanded.atoms(VectorSymbol), key=sp.default_sort_key)})


def _velocity(expression: sp.Expr, own: VectorSymbol, tangent: bool) -> Vector:
    vector, mean = _combination(expression), Vector({own: sp.S.One})
    return vector - vector.dot(mean) / Inner(own, own) * mean if tangent else vector
