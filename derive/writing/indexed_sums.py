"""The nodes of indexed equations: entries of families of symbols, sums over their indices, and squared norms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.notation import indexed_name, name_tex


class Entry(sp.Expr):
    """One member of a family of symbols, by its indices: w_i, Q_ij or rho_i_jl.

    With three indices the last two form a group.
    """

    is_commutative = True
    is_real = True

    def __new__(cls, family: str | sp.Symbol, *indices: sp.Expr) -> Entry:
        return super().__new__(cls, sp.Symbol(str(family)), *(sp.sympify(index, strict=True) for index in indices))

    @classmethod
    def class_key(cls) -> tuple:
        """The key by which SymPy sorts, and so prints, an entry like a symbol."""
        return 2, 0, cls.__name__

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
        """Return the name; with `apart` a separator stands between indices."""
        return indexed_name(self.family, *self._groups(), apart=apart)

    def _groups(self) -> tuple[tuple[sp.Expr, ...], ...]:
        return (self.indices[:1], self.indices[1:]) if len(self.indices) == 3 else (self.indices,)

    def _latex(self, printer: LatexPrinter) -> str:
        head = self.family.removesuffix("_star")
        starred = head != self.family
        body = name_tex(_HEADS.get(head, head), starred, *("".join(map(str, group)) for group in self._groups()))
        return f"{{{body}}}" if starred else body  # braces let the whole symbol take an exponent

    def _sympystr(self, printer: StrPrinter) -> str:
        return self.name


_HEADS = {"nu": r"\nu", "share": r"\hat{\rho}"}


class VectorEntry(Entry):
    """A vector by its indices; it is printed behind its coefficient."""

    @classmethod
    def class_key(cls) -> tuple:
        return 2, 1, cls.__name__


class IndexedSum(sp.Expr):
    """Σ of the first argument over the indices that follow it; the other arguments are the limits of the indices.

    A subclass defines the number of indices, their values, and how the limits are written.
    """

    is_commutative = True
    is_real = True
    index_count = 1

    @property
    def _indices(self) -> tuple[sp.Symbol, ...]:
        return self.args[1 : 1 + self.index_count]

    @property
    def _limits(self) -> tuple[sp.Expr, ...]:
        return self.args[1 + self.index_count :]

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        return (self.args[0].free_symbols - set(self._indices)).union(*(limit.free_symbols for limit in self._limits))

    def expanded(self) -> sp.Expr:
        """Return the sum written out, once the limits are numbers."""
        points = (dict(zip(self._indices, map(sp.Integer, values), strict=True)) for values in self._values())
        return sp.Add(*(self.args[0].xreplace(point) for point in points))

    def _values(self) -> Iterator[tuple[int, ...]]:
        raise NotImplementedError

    def _latex(self, printer: LatexPrinter) -> str:
        term = printer.doprint(self.args[0])
        bracketed = rf"\left({term}\right)" if self.args[0].is_Add else term
        return rf"\sum{self._tex_limits()} {bracketed}"

    def _tex_limits(self) -> str:
        raise NotImplementedError

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sum_{self._plain_limits()}[{printer.doprint(self.args[0])}]"

    def _plain_limits(self) -> str:
        raise NotImplementedError


class SumOver(IndexedSum):
    """Σ over an index from 1 to a size: (term, index, size)."""

    def _values(self) -> Iterator[tuple[int, ...]]:
        (size,) = self._limits
        return ((n,) for n in range(1, int(size) + 1))

    def _tex_limits(self) -> str:
        return f"_{{{self._indices[0]}=1}}^{{{self._limits[0]}}}"

    def _plain_limits(self) -> str:
        return str(self._indices[0])


class SumOverPairs(IndexedSum):
    """Σ over two indices with 1 ≤ first < second ≤ size: (term, first, second, size)."""

    index_count = 2

    def _values(self) -> Iterator[tuple[int, ...]]:
        (size,) = self._limits
        return itertools.combinations(range(1, int(size) + 1), 2)

    def _tex_limits(self) -> str:
        first, second = self._indices
        return rf"_{{1 \le {first} < {second} \le {self._limits[0]}}}"

    def _plain_limits(self) -> str:
        first, second = self._indices
        return f"{first}<{second}"


class SumOverOthers(IndexedSum):
    """Σ over an index from 1 to a size, without one value: (term, index, without, size)."""

    def _values(self) -> Iterator[tuple[int, ...]]:
        without, size = self._limits
        return ((n,) for n in range(1, int(size) + 1) if n != without)

    def _tex_limits(self) -> str:
        (index,), (without, size) = self._indices, self._limits
        return rf"_{{\substack{{{index}=1\\{index} \ne {without}}}}}^{{{size}}}"

    def _plain_limits(self) -> str:
        return f"{self._indices[0]}!={self._limits[0]}"


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
