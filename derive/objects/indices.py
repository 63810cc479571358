"""Index notation: indices with symbolic ranges, families of symbols, and finite sums over bound indices.

An `Entry` is one member of a family of scalars by its indices, as w_i or Q_ij, and a `VectorEntry` one of a family of
vectors, as a_i. A `Sum` binds its index: substitution renames a bound index where it would capture a free one. A vector
is an expression that is linear in vector atoms, so that the same nodes serve scalars and vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.notation import LAST, indexed_name, name_tex
from derive.objects.parameters import PARAMETERS

COMPONENTS, MODES, COORDINATES = sp.symbols("L K r", integer=True, positive=True)
"""The numbers of the proposal's components, of the target's modes, and of the coordinates with covariances."""


class Index(sp.Symbol):
    """An index that runs from 1 to `size`."""

    size: sp.Symbol

    def __new__(cls, name: str, size: sp.Symbol) -> Index:
        symbol = sp.Symbol.__xnew__(cls, name, integer=True, positive=True)
        symbol.size = size
        return symbol

    def __getnewargs_ex__(self) -> tuple:
        return (self.name, self.size), {}

    def _hashable_content(self) -> tuple:
        return (*super()._hashable_content(), self.size)


I = Index("i", COMPONENTS)
"""The free index of a component."""

OTHER, MODE = Index("n", COMPONENTS), Index("n", MODES)
"""The second free index of an overlap: a component in Q_in, a mode in M_in."""

FIRST, SECOND = Index("n", COORDINATES), Index("m", COORDINATES)
"""The free indices of coordinates: X_in is a coordinate of a mean, Sigma_i_nm an entry of a covariance."""

_BOUND = {COMPONENTS: ("j", "l"), MODES: ("k", "m"), COORDINATES: ("o", "p")}


def fresh(size: sp.Symbol, *taken: sp.Basic) -> Index:
    """An index of the given range that occurs in none of the expressions, neither free nor bound."""
    used = {s.name for e in taken for s in e.atoms(Index)}
    letters = _BOUND[size]
    names = (*letters, *(f"{letters[0]}{n}" for n in range(1, len(used) + 2)))
    return Index(next(name for name in names if name not in used), size)


class Entry(sp.Expr):
    """One member of a family of symbols, by its indices: w_i, Q_ij, rho_i_jl or Sigma_i_nm.

    With more than two indices all but the first form a group.
    """

    is_commutative = True
    is_real = True
    _diff_wrt = True
    print_rank = 0

    def __new__(cls, family: str | sp.Symbol, *indices: sp.Expr) -> Entry:
        name = str(family)
        found = tuple(sp.sympify(index, strict=True) for index in indices)
        if name in ("Q", "Gamma") or (len(found) > 2 and name.removesuffix("_star") not in _ORDERED):  # symmetric
            found = (*found[:-2], *sorted(found[-2:], key=sp.default_sort_key))
        return super().__new__(cls, sp.Symbol(name), *found)

    @classmethod
    def class_key(cls) -> tuple:
        """The key by which SymPy sorts, and so prints, an entry like a symbol, behind the symbols without an index."""
        return 2, 0, "Symbols"  # behind "Symbol"

    @property
    def is_positive(self) -> bool | None:
        return self.family.removesuffix("_star") in {parameter.letter for parameter in PARAMETERS} or None

    @property
    def family(self) -> str:
        """The family's name."""
        return self.args[0].name

    @property
    def indices(self) -> tuple[sp.Expr, ...]:
        """The indices."""
        return self.args[1:]

    @property
    def name(self) -> str:
        """The name with its indices."""
        return self.named(apart=False)

    def named(self, apart: bool) -> str:
        """The name; with `apart` a separator stands between indices."""
        return indexed_name(self.family, *self._groups(), apart=apart)

    def _groups(self) -> tuple[tuple[sp.Expr, ...], ...]:
        return (self.indices[:1], self.indices[1:]) if len(self.indices) > 2 else (self.indices,)

    def _latex(self, printer: LatexPrinter) -> str:
        head = self.family.removesuffix("_star")
        starred = head != self.family
        body = name_tex(_HEADS.get(head, head), starred, *("".join(map(str, group)) for group in self._groups()))
        return f"{{{body}}}" if starred else body  # braces let the whole symbol take an exponent

    def _sympystr(self, printer: StrPrinter) -> str:
        return self.name


_HEADS = {"nu": r"\nu", "share": r"\hat{\rho}"}
_ORDERED = {"rhoy", "B"}
"""The families of more than two indices that are not symmetric in the last two."""


class VectorEntry(Entry):
    """A vector by its indices; it is printed behind its coefficient."""

    print_rank = 3

    @classmethod
    def class_key(cls) -> tuple:
        return 2, 1, cls.__name__


class Sum(sp.Expr):
    """Σ of a term over an index, from 1 to the index's size: (term, index).

    Factors without the index stand before the sum, and a Kronecker delta of the index leaves one term.
    """

    is_commutative = True
    is_real = True
    print_rank = LAST

    def __new__(cls, term: sp.Expr, index: Index) -> sp.Expr:
        if index not in term.free_symbols:
            return index.size * term
        for delta in sp.Mul.make_args(term):
            if isinstance(delta, sp.KroneckerDelta) and index in delta.args:
                (other,) = (a for a in delta.args if a != index)
                return (term / delta).xreplace({index: other})
        if term.is_Mul:
            constant, term = term.as_independent(index, as_Add=False)
            if constant != 1:
                return constant * cls(term, index)
        return super().__new__(cls, term, index)

    @property
    def term(self) -> sp.Expr:
        return self.args[0]

    @property
    def index(self) -> Index:
        return self.args[1]

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        return (self.term.free_symbols - {self.index}) | {self.index.size}

    def _xreplace(self, rule: Mapping[sp.Basic, sp.Basic]) -> tuple[sp.Expr, bool]:
        if self in rule:
            return rule[self], True
        rule = {old: new for old, new in rule.items() if old != self.index}
        term, index = self.args
        if any(index in new.free_symbols and index not in old.free_symbols for old, new in rule.items()):
            index = fresh(index.size, term, *rule, *rule.values())
            term = term.xreplace({self.index: index})
        changed, any_change = term._xreplace(rule)
        return (Sum(changed, index), True) if any_change or index != self.index else (self, False)

    def _eval_subs(self, old: sp.Expr, new: sp.Expr) -> sp.Expr:
        return self._xreplace({old: new})[0]

    def _latex(self, printer: LatexPrinter) -> str:
        term = printer.doprint(self.term)
        body = rf"\left({term}\right)" if self.term.is_Add else term
        return rf"\sum_{{{self.index}=1}}^{{{self.index.size}}} {body}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sum_{self.index}[{printer.doprint(self.term)}]"


def multiplied_out(expression: sp.Expr) -> sp.Expr:
    """The expression with products and powers of sums multiplied out.

    Each other hint of SymPy's `expand` would go through the expression once more.
    """
    return sp.expand(expression, log=False, power_base=False, power_exp=False, basic=False)


def total(term: sp.Expr, index: Index) -> sp.Expr:
    """Σ of a term over an index, with one sum for each part of the expanded term."""
    return sp.Add(*(Sum(part, index) for part in sp.Add.make_args(multiplied_out(term))))


def flattened(expression: sp.Expr) -> dict[sp.Expr, sp.Expr]:
    """The normal form of an expression in sums: its products, free of sums, with their numerical coefficients.

    All sums are distributed and the bound indices are renamed in a fixed way, so that two expressions whose normal
    forms agree are equal as sums. A bound index of a product is a dummy of its range.
    """
    found: dict[sp.Expr, sp.Expr] = {}
    for product, bound in products(expression):
        name = _canonical(product, bound)
        coefficient, rest = name.as_coeff_Mul()
        found[rest] = found.get(rest, sp.S.Zero) + coefficient
    return {product: coefficient for product, coefficient in found.items() if coefficient != 0}


def equal(one: sp.Expr, other: sp.Expr) -> bool:
    """Whether two expressions in sums have one normal form: the same but for the names and the order of their sums."""
    return not flattened(one - other)


def products(expression: sp.Expr, bound: tuple[Index, ...] = ()) -> list[tuple[sp.Expr, tuple[Index, ...]]]:
    """The products, free of sums, that an expression is the sum of, each with its bound indices, outermost first."""
    found = []
    for term in sp.Add.make_args(multiplied_out(expression)):
        powers = (factor.as_base_exp() for factor in sp.Mul.make_args(term))
        inner = next((base for base, power in powers if isinstance(base, Sum) and power.is_positive), None)
        if inner is None:
            found.append((term, bound))
            continue
        rest, index = term / inner, inner.index
        if index in rest.atoms(Index) | set(bound):
            index = fresh(index.size, rest, inner.term, *bound)
        found += products(rest * inner.term.xreplace({inner.index: index}), (*bound, index))
    return found


def _canonical(product: sp.Expr, bound: tuple[Index, ...]) -> sp.Expr:
    """The product under that renaming of its bound indices which comes first."""

    def named(order: tuple[Index, ...]) -> sp.Expr:
        names = {index: Index(f"_{n}", index.size) for n, index in enumerate(order)}
        return product.xreplace(names)

    return min((named(order) for order in permutations(bound)), key=sp.default_sort_key)
