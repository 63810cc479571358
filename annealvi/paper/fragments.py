"""LaTeX fragments for the article: numbers by name, tables, and the outcomes of checks."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from annealvi import __version__
from annealvi.annealing.betas import ANNEALED
from annealvi.paper.article_results import (
    COLDEST,
    COMPARED_SCHEDULES,
    HOTTEST,
    P_MAX,
    STARTS,
    TRADE_OFF,
    Mixture,
    Results,
)
from annealvi.paper.exported_equations import PaperEquation
from annealvi.verification.check import Check
from annealvi.verification.evaluator import DIGITS
from annealvi.verification.kl_gradient import MUTANTS
from annealvi.verification.limit_identities import MARGIN
from annealvi.verification.limit_numbers import IDENTITY
from derive.checks.step_check import BOUND
from derive.dynamics.derivation import Derivation
from derive.objects.expectation import ChiSquared, Expectation
from derive.problem.specification import ScheduleSpec

_SPECIAL = {c: rf"\{c}" for c in "&%#_${}"} | {
    "~": r"\textasciitilde{}",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
}
_SPECIAL |= {c: f"${c}$" for c in "<>|"} | {"[": "{[}", "]": "{]}"}  # after a table's \\ a bracket would be an argument
_GREEK = {
    "β": r"\beta",
    "χ": r"\chi",
    "σ": r"\sigma",
    "ρ": r"\rho",
    "λ": r"\lambda",
    "μ": r"\mu",
    "ν": r"\nu",
    "θ": r"\theta",
}
_SIGNS = {
    "≤": r"\le",
    "≥": r"\ge",
    "±": r"\pm",
    "×": r"\times",
    "−": "-",
    "→": r"\to",
    "∞": r"\infty",
    "⋆": r"\star",
    "½": r"\frac12",
}
_SPECIAL |= {c: f"${tex}$" for c, tex in {**_GREEK, **_SIGNS, "²": "^2", "₁": "_1", "₂": "_2", "⁻": "^-"}.items()}
_SPECIAL |= {
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_SPECIAL |= {
    "ı": r"\i{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
}
_ACCENTS = dict(
    zip(
        "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0327\u0331",
        "`'^~=u.\"rHvdcb",
        strict=True,
    )
)


def text(words: str) -> str:
    """Plain text for LaTeX, in ASCII.

    A character that LaTeX's default font encoding, OT1, does not have becomes a question mark.
    """
    return "".join(_letter(c) for c in words)


def _letter(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else "?"
    parts = unicodedata.normalize("NFD", character)
    base, accent = parts[0], parts[1:]
    if accent in _ACCENTS and base.isascii() and base.isalpha():
        dotless = "\\" if base in "ij" else ""
        return rf"\{_ACCENTS[accent]}{{{dotless}{base}}}"
    return "?"


def number(value: float, digits: int = 3) -> str:
    """A number in mathematics: 0.0123, 344, 1.2 · 10⁻¹⁴, ∞; a dash for a NaN."""
    if math.isnan(value):
        return "--"
    if math.isinf(value):
        return r"$\infty$" if value > 0 else r"$-\infty$"
    if value == 0:
        return "$0$"
    if 1e-3 <= abs(value) < 1e5:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"${value:.{places}f}$"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return rf"${mantissa}\cdot 10^{{{int(exponent)}}}$"


def rough(value: float) -> str:
    return number(value, 2)


def booktabs(columns: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = " \\\\\n".join(" & ".join(row) for row in rows)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(headings)} \\\\\n\\midrule\n{body} "
        f"\\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def named(values: Mapping[str, str], kind: str) -> str:
    """The definitions behind the article's \\num{...} or \\checked{...}."""
    return "".join(
        f"\\expandafter\\def\\csname {kind}:{name}\\endcsname{{{value}}}\n" for name, value in values.items()
    )


def mark(equation: PaperEquation) -> str:
    """The line under an equation: a mark, its check closest to the bound, and the closest check of its whole system."""
    checks, whole = equation.checks, equation.whole
    if not checks and not whole:
        return rf"compared by \texttt{{{breakable(equation.test)}}} only" if equation.test else "not compared"
    found = [_closest(checks)] if checks else []
    found += (
        [f"the system as a whole: {_closest(whole)}"]
        if whole
        else ["steps only"]
        if checks[0].name.startswith("step: ")
        else []
    )
    sign = r"$\checkmark$" if equation.passed else r"$\times$ FAILED"
    return f"{sign} {'; '.join(found)}"


def _closest(checks: Sequence[Check]) -> str:
    """The failed check, or the check closest to its bound, in words."""
    worst = max(checks, key=lambda c: (not c.passed, c.statistic / c.bound if c.bound else c.statistic))
    several = f"{len(checks)} checks, closest to its bound: " if len(checks) > 1 else ""
    relation = r"$\le$" if worst.passed else r"$\not\le$"  # also right for a NaN
    return f"{several}{text(worst.name)}: {rough(worst.statistic)} {relation} {rough(worst.bound)}"


def check_table(checks: Sequence[Check]) -> str:
    rows = [
        (text(c.name), c.kind, rough(c.statistic), rough(c.bound), r"$\checkmark$" if c.passed else r"$\times$")
        for c in checks
    ]
    return booktabs("p{0.58\\linewidth}lrrc", ("check", "kind", "statistic", "bound", ""), rows)


def step_table(derivation: Derivation, checks: Sequence[Check]) -> str:
    """The table of a derivation's rules with the difference that each check found."""
    found = {c.name.removeprefix("step: "): c for c in checks}
    rows = []
    for n, step in enumerate(derivation.written_out, 1):
        check = found.get(step.rule)
        outcome = "--" if check is None else f"{rough(check.statistic)} {'' if check.passed else 'FAILED'}"
        rows.append((str(n), text(step.rule), outcome))
    return booktabs("rlr", ("", "rule", "difference"), rows)


def tables(results: Results) -> dict[str, str]:
    """The article's tables by file name."""
    theory = list(results.theory.checks.values())
    schedules = [
        (
            _kind(spec.kind),
            *_times(spec),
            number(formula.p),
            number(formula.leading),
            rf"{number(o.p)} $\pm$ {rough(o.stderr)}",
        )
        for spec, formula, o in results.compared
    ]
    kinds = [
        (_kind(c.kind), number(c.T0), number(c.t0, 4), number(c.duration, 4), number(c.equal), number(c.equal_start))
        for c in results.recommended.compared
    ]
    critical = [
        (str(c.separation), number(c.exact, 4), number(c.expanded, 4), rf"{100 * (c.expanded / c.exact - 1):+.1f}\,\%")
        for c in results.critical
    ]
    holds = [(f"{duration:.0f}", number(h.temperature), rough(h.p)) for duration, h in results.holds]
    return {
        "steps": step_table(results.session.derivation, results.verification.checks),
        "checks": check_table(
            [c for c in results.verification.checks if not c.name.startswith("step: ") and c not in theory]
        ),
        "limits": check_table(theory),
        "schedules": booktabs(
            "lrrrrr", ("schedule", "$T_0$", "$t_0$", "formula", "leading order", "ensemble"), schedules
        ),
        "kinds": booktabs(
            "lrrrrr", ("kind", "$T_0$", "$t_0$", "duration", "$P$ at equal duration", "its $T_0$"), kinds
        ),
        "critical": booktabs("rrrr", ("$R$", "$T_c$", "expansion", "error"), critical),
        "holds": booktabs("rrr", ("duration", "$T_h$", "$P$"), holds),
        "mixtures": booktabs(
            "lrrrlr",
            ("problem", "$K$", "$L$", "states", "averages over", "worst step"),
            map(_mixture_row, results.others),
        ),
    }


def _kind(kind: str) -> str:
    return {"constant": "none ($\\beta = 1$)"}.get(kind, text(kind))


def _times(spec: ScheduleSpec) -> tuple[str, str]:
    return ("--", "--") if spec.kind == "constant" else (number(spec.T0, 3), number(spec.t0, 4))


def _mixture_row(mixture: Mixture) -> tuple[str, ...]:
    setting, system = mixture.derivation.setting, mixture.derivation.system
    averages = set().union(*(e.atoms(Expectation) for _, e in system.subexpressions))
    widest: tuple = max((a.variables for a in averages), key=len, default=())
    squared = sum(isinstance(v, ChiSquared) for v in widest)
    over = f"{len(widest) - squared} normal" + (r" and a $\chi^2$" if squared else "")
    worst = max((c.statistic for c in mixture.checks), default=math.nan)
    return (
        text(mixture.name),
        str(setting.target.size),
        str(setting.proposal.size),
        str(len(system.states)),
        over,
        rough(worst),
    )


def only(checks: Iterable[Check], name: str) -> Check:
    """The single check of that name; ValueError if there is none or more than one."""
    (found,) = (c for c in checks if c.name == name)
    return found


def numbers(results: Results, flows: Mapping[str, str]) -> dict[str, str]:
    """All numbers in the article's sentences by name, and the words that depend on results."""
    verification, problem = results.verification, results.session.problem
    theory = list(results.theory.checks.values())
    steps = [c for c in verification.checks if c.name.startswith("step: ")]
    orders = [c for c in theory if c.bound == MARGIN]
    identities = [c for c in theory if c.bound == IDENTITY]
    deviations = [abs(f.p - o.p) / o.stderr for _, f, o in results.compared]
    recommended, law, ultimate = results.recommended, results.scaling, results.ultimate
    here = next(c for c in results.critical if c.separation == problem.proposal.radii[0])
    by_kind = {c.kind: c for c in recommended.compared}
    curves = dict(results.trade_off)
    interior = all(0 < p.argmin() < len(p) - 1 for _, p in results.trade_off)
    raised, _, low = results.together
    return {
        "version": text(__version__),
        "device": text(verification.device),
        "separation": number(problem.proposal.radii[0], 1),
        "heavier-weight": number(max(problem.target.weights), 1),
        "first-weight": number(problem.proposal.weights[0], 1),
        "dimension": str(problem.space.dimension),
        "general-steps": str(len(results.session.derivation.general.steps)),
        "steps": str(len(results.session.derivation.written_out)),
        "steps-checked": str(len(steps)),
        "steps-worst": rough(max(c.statistic for c in steps)),
        "step-digits": str(round(-math.log10(BOUND))),
        "rate-digits": str(DIGITS),
        "checks": str(len(verification.checks)),
        "verdict": "all of them hold" if verification.passed else r"\textbf{not all of them hold}",
        "mutants": text(only(verification.checks, MUTANTS).note),
        "limits": str(len(theory)),
        "limits-failed": str(sum(not c.passed for c in theory)),
        "orders-worst": rough(max(c.statistic for c in orders)),
        "identities-worst": rough(max(c.statistic for c in identities)),
        "critical": number(here.exact, 4),
        "compared": str(len(COMPARED_SCHEDULES)),
        "ensemble": str(results.n),
        "deviation-worst": rough(max(deviations)),
        "untempered": number(results.compared[0][1].p),
        "study": number(next(f.p for s, f, _ in results.compared if s == problem.schedule)),
        "study-kind": text(problem.schedule.kind),
        "study-start": number(problem.schedule.T0),
        "p-max": number(P_MAX, 1),
        "ended": number(1 + ANNEALED, 3),
        "kinds-verdict": "bears that out" if recommended.schedule.kind == "hold" else r"does \emph{not} bear that out",
        "best-kind": text(recommended.schedule.kind),
        "best-start": number(recommended.schedule.T0),
        "best-duration": number(recommended.duration, 4),
        "best-ode": rf"{number(recommended.p_ode)} $\pm$ {rough(recommended.stderr)}",
        "exponential-duration": number(by_kind["exponential"].duration, 3),
        "geometric-duration": number(by_kind["geometric"].duration, 3),
        "holds-trend": "rises"
        if all(np.diff([h.temperature for _, h in results.holds]) > 0)
        else r"does \emph{not} rise",
        "ultimate-temperature": number(ultimate.temperature),
        "ultimate-rate": number(ultimate.rate, 3),
        "scaling-rate": number(law.rate, 3),
        "scaling-prefactor": number(law.prefactor, 2),
        "release": number(law.release, 3),
        "scaling-decade": number(math.log(10) / (2 * law.rate), 3),
        "trade-off-scale": number(TRADE_OFF),
        "trade-off-lowest": number(float(curves[TRADE_OFF].min()), 2),
        "trade-off-hottest": number(float(curves[TRADE_OFF][-1]), 2),
        "trade-off-hottest-start": number(STARTS[-1]),
        "trade-off-verdict": "falls with $T_0$ and rises again" if interior else "is not least between the ends",
        "together-start": number(raised[-1]),
        "together": number(float(low[-1]), 2),
        "coldest": number(COLDEST, 1),
        "hottest": number(HOTTEST),
        "bifurcations": str(sum(len(b.bifurcations) for b in results.branches.branches)),
        "branches": str(len(results.branches.branches)),
        "ode-worst": number(float(np.abs(results.at_ensembles["p"] - results.ode["p_ode"]).max()), 2),
        **flows,
    }


def checked(equations: Iterable[PaperEquation]) -> dict[str, str]:
    return {e.label: mark(e) for e in equations}


def index(equations: Iterable[PaperEquation]) -> str:
    """The table of all equations: label, rule, kernel, the check closest to its bound, and the test."""
    head = r"\textbf{label} & \textbf{from} & \textbf{computed by} & \textbf{check and test} \\ \midrule \endhead"
    rows = [" & ".join(_index_row(e)) + r" \\" for e in equations]
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}\linewidth}}" for width in (0.21, 0.13, 0.18, 0.39))
    return "\n".join([rf"\begin{{longtable}}{{{columns}}}", head, *rows, r"\bottomrule", r"\end{longtable}", ""])


def _index_row(equation: PaperEquation) -> tuple[str, ...]:
    found = mark(equation)
    if equation.checks or equation.whole:
        found += rf"; \texttt{{{breakable(equation.test)}}}"
    return (
        rf"\texttt{{{breakable(equation.label)}}}",
        breakable(equation.rule),
        rf"\texttt{{{breakable(equation.kernel)}}}",
        found,
    )


def breakable(name: str) -> str:
    """A label or name that LaTeX may break after punctuation and in long words."""
    pieces = re.findall(r"[A-Za-z0-9]{1,24}|.", name)
    return "".join(text(piece) + (r"\allowbreak{}" if len(piece) == 24 or piece in "-_:. " else "") for piece in pieces)
