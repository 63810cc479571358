"""The softmax share of one component among several, as a SymPy function of logits.

A responsibility becomes a share once the reduction has made its logits scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import sympy as sp
from sympy.printing.codeprinter import CodePrinter
from sympy.printing.latex import LatexPrinter

from derive.objects.lambdified import Coded


class Softmax(Coded, sp.Function):
    """Softmax(j, ℓ_1, …, ℓ_C) = e^{ℓ_j} / Σ_l e^{ℓ_l}, with j counted from 1.

    The share is a node of its own because SymPy would merge the exponentials of a product of shares. The shares of one
    set of logits would then no longer show that they have their exponentials in common.
    """

    is_commutative = True
    is_real = True
    is_positive = True

    @classmethod
    def eval(cls, j: sp.Integer, *logits: sp.Expr) -> sp.Expr | None:
        if not 1 <= int(j) <= len(logits):
            raise ValueError(f"no component {j} among {len(logits)} logits")
        return sp.S.One if len(logits) == 1 else None

    @property
    def component(self) -> int:
        return int(self.args[0])

    @property
    def logits(self) -> tuple[sp.Expr, ...]:
        return self.args[1:]

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        return set(_symbols_in(self.logits))

    def explicit(self) -> sp.Expr:
        """1/(1 + Σ_{l≠j} e^{ℓ_l − ℓ_j}): the definition divided through by its own exponential."""
        own = self.logits[self.component - 1]
        others = (logit for n, logit in enumerate(self.logits, 1) if n != self.component)
        return 1 / (1 + sp.Add(*(sp.exp(logit - own) for logit in others)))

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.explicit().evalf(int(prec / 3.32) + 1)

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """∂ρ_j/∂ℓ_l = ρ_j (δ_jl − ρ_l)."""
        if not 2 <= argindex <= len(self.args):
            raise sp.function.ArgumentIndexError(self, argindex)
        l = argindex - 1
        return self * (sp.Integer(int(l == self.component)) - Softmax(l, *self.logits))

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        inside = ",\\ ".join(printer.doprint(logit) for logit in self.logits)
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\operatorname{{softmax}}_{{{self.component}}}{power}\left({inside}\right)"

    def _sympystr(self, printer: sp.printing.str.StrPrinter) -> str:
        return f"softmax_{self.component}({', '.join(printer.doprint(logit) for logit in self.logits)})"

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        call = printer._module_format("derive.objects.lambdified.share")
        return f"{call}({_arguments(self, printer)}, {name('exp')}, {name('maximum')})"


@lru_cache(maxsize=256)
def _symbols_in(logits: tuple[sp.Expr, ...]) -> frozenset[sp.Symbol]:
    """The symbols of all logits, which the shares in every average over one sample have in common."""
    return frozenset().union(*(logit.free_symbols for logit in logits))


class LogSoftmax(Coded, sp.Function):
    """log Softmax(j, ℓ_1, …) as lambdified functions compute it, finite also where the share underflows."""

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        call = printer._module_format("derive.objects.lambdified.log_share")
        return f"{call}({_arguments(self, printer)}, {name('exp')}, {name('maximum')}, {name('log')})"


def _arguments(share: sp.Function, printer: CodePrinter) -> str:
    return f"{int(share.args[0])}, [{', '.join(printer.doprint(logit) for logit in share.args[1:])}]"


def written_out(expression: sp.Expr) -> sp.Expr:
    """The expression with every share written in exponentials."""
    return expression.replace(lambda e: isinstance(e, Softmax), lambda e: e.explicit())
