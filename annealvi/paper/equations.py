"""Derived equations with what stands behind them, as LaTeX: one file each, and a bundle of macros for anybody's document.

An equation knows the rule that derived it, the checks that it passed and the kernel that computes it, so that a reader of the page can go
from any of them to the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annealvi.checks.check import Check
from derive.asymptotics import Asymptotics
from derive.derivation import Derivation
from derive.hold_and_quench import DRIFT, REPULSION, SLOPE, SUM, Pair
from derive.line_breaking import align, broken, terms_of, terms_tex
from derive.linear_stability import BimodalStability
from derive.named_logits import with_named_logits
from derive.notation import tex
from derive.rendering import final_equations
from derive.slug import slug
from derive.step import Equation

EVALUATED = "the expression itself, in SymPy"
COLUMN = 60
"""Symbols that fit on a line of the article's text."""


@dataclass(frozen=True)
class PaperEquation:
    """One equation of the paper.

    label: PROBLEM:NAME, unique. lines: LaTeX lines, aligned at `&`. rule: the derivation's rule, or the module, that it comes from.
    kernel: what evaluates it in numbers. checks: what was compared; empty for what only the tests compare.
    """

    label: str
    lines: tuple[str, ...]
    rule: str
    kernel: str
    checks: tuple[Check, ...]

    @property
    def file(self) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", self.label).strip("-") + ".tex"

    @property
    def macro(self) -> str:
        """Its LaTeX command, which may have letters only: bimodal:dm_1 is \\AVbimodalDmOne."""
        return "\\AV" + in_letters(self.label)

    @property
    def latex(self) -> str:
        """The equation for display mathematics, several lines as `aligned`."""
        if len(self.lines) == 1:
            return self.lines[0].replace("&=", "=")
        return "\\begin{aligned}\n" + " \\\\\n".join(self.lines) + "\n\\end{aligned}"

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_file(self) -> str:
        """A numbered display with its label, under a comment that says where it comes from."""
        head = [f"% {self.label}", f"% from: {self.rule}", f"% computed by: {self.kernel}", *(f"% {in_words(c)}" for c in self.checks)]
        return "\n".join([*head, align([_with_label(self.lines, f"eq:{self.label}")], "align")]) + "\n"

    def as_dict(self) -> dict:
        checks = [{"name": c.name, "statistic": c.statistic, "bound": c.bound, "passed": c.passed} for c in self.checks]
        return {"label": self.label, "macro": self.macro, "latex": self.latex, "rule": self.rule, "kernel": self.kernel, "checks": checks}


def in_letters(label: str) -> str:
    """A label as what a macro's name may have, letters only; the first word keeps its case."""
    first, *others = re.findall(r"[A-Za-z]+|\d|'|\+", label)
    return _IN_LETTERS.get(first, first) + "".join(_IN_LETTERS.get(w, w[0].upper() + w[1:]) for w in others)


_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_IN_LETTERS = dict(zip("0123456789", _DIGITS, strict=True)) | {"'": "Prime", "+": "Plus"}


def in_words(check: Check) -> str:
    return f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.statistic:.2g}, bound {check.bound:.2g}"


def _with_label(lines: Sequence[str], label: str) -> list[str]:
    return [*(rf"{line} \nonumber" for line in lines[:-1]), rf"{lines[-1]} \label{{{label}}}"]


def system_equations(problem: str, derivation: Derivation, checks: Sequence[Check]) -> tuple[PaperEquation, ...]:
    """The closed system: definitions, then rates. checks: what all of it, or a rate, passed."""
    states = {f"d{s.name}": n for n, s in enumerate(derivation.system.states)}
    found = []
    for e in with_named_logits(final_equations(derivation)):
        name = re.sub(r"\(.*", "", e.label)
        computed = f"the generated kernel, rate {states[name]}" if name in states else _kernel_of(e)
        found.append(
            PaperEquation(
                f"{slug(problem)}:{name}",
                tuple(broken(e.left, terms_tex(e, COLUMN), COLUMN)),
                _rule_of(e, derivation),
                computed,
                tuple(checks),
            )
        )
    return tuple(found)


def _kernel_of(equation: Equation) -> str:
    return "the generated kernel, by name" if "mathbb{E}" not in equation.latex() else "the generated kernel, by a certified approximation"


def _rule_of(equation: Equation, derivation: Derivation) -> str:
    """The last step that changed the equation, or brought it in."""
    for step in reversed(derivation.steps):
        before = {e.label: e.value for e in step.before}
        after = {e.label: e.value for e in step.after}
        if equation.label in after and before.get(equation.label) != after[equation.label]:
            return step.rule
    return "naming of the logits"


def limit_equations(problem: str, limits: Asymptotics, checks: Mapping[str, Check]) -> tuple[PaperEquation, ...]:
    """The theory's limits by name. checks: by the same names."""
    origins = {
        **dict.fromkeys(limits.path.latex(), "derive.transverse_growth"),
        **dict.fromkeys(limits.hot.latex(), "derive.high_temperature"),
        **dict.fromkeys(limits.slow.latex(), "derive.quasi_static"),
        **{f"hot growth, {g.kind}": "derive.growth_exponents" for g in limits.growth},
        **{f"{g.kind} schedule for a small probability": "derive.growth_exponents" for g in limits.growth},
        **{e.name: "derive.small_overlaps" for e in limits.expansions if e.name.endswith("small overlaps")},
        **{e.name: "derive.near_equal" for e in limits.expansions if e.name.endswith("near components")},
    }
    return tuple(
        PaperEquation(
            f"{problem}:{slug(name)}",
            tuple(_lines(latex)),
            origins.get(name, "derive.large_separation"),
            EVALUATED,
            (checks[name],) if name in checks else (),
        )
        for name, latex in limits.latex().items()
    )


def stability_equations(problem: str, stability: BimodalStability, checks: Mapping[str, Check]) -> tuple[PaperEquation, ...]:
    """The matrix and the determinant at each corner of the overlaps. checks: by the corners' names."""
    found = []
    for corner in (stability.collapsed, stability.mixed, stability.separated):
        for part, left, value in (("matrix", "J", corner.matrix), ("determinant", r"\det J", corner.determinant)):
            label, lines = f"{problem}:{corner.name}-{part}", (f"{left} &= {tex(value)}",)
            found.append(PaperEquation(label, lines, "derive.linear_stability", EVALUATED, (checks[corner.name],)))
    return tuple(found)


def hold_equations(problem: str, pair: Pair) -> tuple[PaperEquation, ...]:
    """The protected pair's linear flow and the slope of its switching function, per (ψ'/ψ) e^{∫κ}."""
    names = {DRIFT: "F(0)", SLOPE: "F'(0)", REPULSION: "G(-1)"}
    lines = {
        "protected-sum": (r"\dot a", pair.drift + pair.damping * SUM),
        "protected-difference": (r"\dot b / b", pair.growth),
        "switching-slope": (r"\dot S\,\big/\,\tfrac{\psi'}{\psi}e^{\int\kappa}", pair.switching_slope()),
    }
    return tuple(
        PaperEquation(f"{problem}:{name}", (f"{left} &= {tex(value, names)}",), "derive.hold_and_quench", EVALUATED, ())
        for name, (left, value) in lines.items()
    )


def _lines(latex: str) -> list[str]:
    left, _, right = latex.partition(" = ")
    return broken(left, terms_of(right), COLUMN)


def bundle(equations: Iterable[PaperEquation]) -> str:
    """All equations as macros, to be read into any document that uses amsmath, and set in display mathematics."""
    head = "% Equations of annealed variational inference on Gaussian mixtures, as derived by annealvi. Needs amsmath and amssymb.\n"
    head += "% \\input this file; then \\[ \\AVbimodalDmOne \\] shows an equation.\n"
    found = {e.macro: e for e in equations}
    return head + "".join(f"% {e.label}\n\\newcommand{{{macro}}}{{{e.latex}}}\n" for macro, e in found.items())
