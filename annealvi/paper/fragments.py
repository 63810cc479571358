"""LaTeX that the article reads: numbers by name, tables, and what checks say."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from annealvi import __version__
from annealvi.checks.check import Check
from annealvi.checks.grid import MUTANTS
from annealvi.paper.equations import PaperEquation
from annealvi.paper.results import COMPARED_SCHEDULES, P_MAX, Mixture, Results
from derive.derivation import Derivation
from derive.expectation import ChiSquared, Expectation
from derive.problem import ScheduleSpec

_SPECIAL = {c: rf"\{c}" for c in "&%#_${}"} | {"~": r"\textasciitilde{}", "\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {c: f"${c}$" for c in "<>|"} | {"[": "{[}", "]": "{]}"}  # after a table's \\ a bracket would be an argument
_GREEK = {"β": r"\beta", "χ": r"\chi", "σ": r"\sigma", "ρ": r"\rho", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu", "θ": r"\theta"}
_SIGNS = {"≤": r"\le", "≥": r"\ge", "±": r"\pm", "×": r"\times", "−": "-", "→": r"\to", "∞": r"\infty", "⋆": r"\star", "½": r"\frac12"}
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
_SPECIAL |= {"ı": r"\i{}", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\dots{}", "\u00a0": "~"}
_ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0327\u0331", "`'^~=u.\"rHvdcb", strict=True))


def text(words: str) -> str:
    """Plain text for LaTeX, in ASCII; a character that its default encoding of fonts, OT1, has no letter for becomes a question mark."""
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
    """A number in mathematics: 0.0123, 344, 1.2 · 10⁻¹⁴, ∞, and a dash for none."""
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
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(headings)} \\\\\n\\midrule\n{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n"
    )


def named(values: Mapping[str, str], kind: str) -> str:
    """Definitions that the article's \\num{...} or \\checked{...} looks up."""
    return "".join(f"\\expandafter\\def\\csname {kind}:{name}\\endcsname{{{value}}}\n" for name, value in values.items())


def mark(checks: Sequence[Check]) -> str:
    """What stands under an equation: a mark, the worst check's name, its statistic and bound."""
    if not checks:
        return r"compared in the test suite only"
    worst = max(checks, key=lambda c: (not c.passed, c.statistic / c.bound if c.bound else c.statistic))
    sign = r"$\checkmark$" if all(c.passed for c in checks) else r"$\times$ FAILED"
    several = f"{len(checks)} checks; closest to its bound: " if len(checks) > 1 else ""
    relation = r"$\le$" if worst.passed else r"$\not\le$"  # a NaN is neither below the bound nor above
    return f"{sign} {several}{text(worst.name)}: {rough(worst.statistic)} {relation} {rough(worst.bound)}"


def check_table(checks: Sequence[Check]) -> str:
    rows = [(text(c.name), c.kind, rough(c.statistic), rough(c.bound), r"$\checkmark$" if c.passed else r"$\times$") for c in checks]
    return booktabs("p{0.58\\linewidth}lrrc", ("check", "kind", "statistic", "bound", ""), rows)


def step_table(derivation: Derivation, checks: Sequence[Check]) -> str:
    """Each rule with its statement and what its check found."""
    found = {c.name.removeprefix("step: "): c for c in checks}
    rows = []
    for n, step in enumerate(derivation.steps, 1):
        check = found.get(step.rule)
        outcome = "--" if check is None else f"{rough(check.statistic)} {'' if check.passed else 'FAILED'}"
        rows.append((str(n), text(step.rule), outcome))
    return booktabs("rlr", ("", "rule", "difference"), rows)


def tables(results: Results) -> dict[str, str]:
    """Each table by its file's name."""
    schedules = [
        (_kind(spec.kind), *_times(spec), number(formula.p), number(formula.leading), rf"{number(o.p)} $\pm$ {rough(o.stderr)}")
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
        "checks": check_table([c for c in results.verification.checks if not c.name.startswith("step: ")]),
        "limits": check_table(list(results.limit_checks.values())),
        "schedules": booktabs("lrrrrr", ("schedule", "$T_0$", "$t_0$", "formula", "leading order", "ensemble"), schedules),
        "kinds": booktabs("lrrrrr", ("kind", "$T_0$", "$t_0$", "duration", "$P$ at equal duration", "its $T_0$"), kinds),
        "critical": booktabs("rrrr", ("$R$", "$T_c$", "expansion", "error"), critical),
        "holds": booktabs("rrr", ("duration", "$T_h$", "$P$"), holds),
        "mixtures": booktabs(
            "lrrrlr", ("problem", "$K$", "$L$", "states", "averages over", "worst step"), map(_mixture_row, results.others)
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
    return text(mixture.name), str(setting.target.size), str(setting.proposal.size), str(len(system.states)), over, rough(worst)


def only(checks: Iterable[Check], name: str) -> Check:
    """The one check of that name; ValueError where there is none or another."""
    (found,) = (c for c in checks if c.name == name)
    return found


def numbers(results: Results, flows: Mapping[str, str]) -> dict[str, str]:
    """Every number in the article's sentences, by name."""
    verification = results.verification
    steps = [c for c in verification.checks if c.name.startswith("step: ")]
    orders = [c for c in results.limit_checks.values() if c.bound > 1e-3]
    identities = [c for c in results.limit_checks.values() if c.bound < 1e-3]
    deviations = [abs(f.p - o.p) / o.stderr for _, f, o in results.compared]
    recommended, law, ultimate = results.recommended, results.scaling, results.ultimate
    three = next(c for c in results.critical if c.separation == 3)
    by_kind = {c.kind: c for c in recommended.compared}
    curves = dict(results.trade_off)
    return {
        "version": text(__version__),
        "device": text(verification.device),
        "steps": str(len(results.session.derivation.steps)),
        "steps-checked": str(len(steps)),
        "steps-worst": rough(max(c.statistic for c in steps)),
        "checks": str(len(verification.checks)),
        "verdict": "all of them hold" if verification.passed else r"\textbf{not all of them hold}",
        "mutants": text(only(verification.checks, MUTANTS).note),
        "limits": str(len(results.limit_checks)),
        "limits-failed": str(sum(not c.passed for c in results.limit_checks.values())),
        "orders-worst": rough(max(c.statistic for c in orders)),
        "identities-worst": rough(max(c.statistic for c in identities)),
        "critical": number(three.exact, 4),
        "compared": str(len(COMPARED_SCHEDULES)),
        "ensemble": str(results.n),
        "deviation-worst": rough(max(deviations)),
        "untempered": number(results.compared[0][1].p),
        "study": number(next(f.p for s, f, _ in results.compared if s.kind == "exponential" and s.t0 == 1152.0)),
        "p-max": number(P_MAX, 1),
        "best-kind": text(recommended.schedule.kind),
        "best-start": number(recommended.schedule.T0),
        "best-duration": number(recommended.duration, 4),
        "best-ode": rf"{number(recommended.p_ode)} $\pm$ {rough(recommended.stderr)}",
        "exponential-duration": number(by_kind["exponential"].duration, 3),
        "geometric-duration": number(by_kind["geometric"].duration, 3),
        "linear-best-start": number(results.recommended.compared[1].T0) if len(recommended.compared) > 1 else "--",
        "ultimate-temperature": number(ultimate.temperature),
        "ultimate-rate": number(ultimate.rate, 3),
        "scaling-rate": number(law.rate, 3),
        "scaling-prefactor": number(law.prefactor, 2),
        "release": number(law.release, 3),
        "scaling-decade": number(math.log(10) / (2 * law.rate), 3),
        "trade-off-lowest": number(float(curves[1000.0].min()), 2),
        "trade-off-hottest": number(float(curves[1000.0][-1]), 2),
        "bifurcations": str(sum(len(b.bifurcations) for b in results.branches.branches)),
        "branches": str(len(results.branches.branches)),
        "ode-worst": number(float(_largest_difference(results)), 2),
        **flows,
    }


def _largest_difference(results: Results) -> float:
    """Between the map and the ensembles' own coarse map, at the latter's points."""
    interpolated = results.phase["p"].interp({k: results.ode[k] for k in results.ode.coords})
    return float(np.abs(interpolated - results.ode["p_ode"]).max())


def checked(equations: Iterable[PaperEquation]) -> dict[str, str]:
    return {e.label: mark(e.checks) for e in equations}


def index(equations: Iterable[PaperEquation]) -> str:
    """Every equation: its label and macro, the rule that it comes from, what computes it, and its check closest to the bound."""
    head = r"\textbf{label} & \textbf{from} & \textbf{computed by} & \textbf{check} \\ \midrule \endhead"
    cells = ((rf"\texttt{{{breakable(e.label)}}}", breakable(e.rule), text(e.kernel), mark(e.checks)) for e in equations)
    rows = [" & ".join(row) + r" \\" for row in cells]
    columns = "".join(rf">{{\raggedright\arraybackslash}}p{{{width}\linewidth}}" for width in (0.24, 0.14, 0.22, 0.28))
    return "\n".join([rf"\begin{{longtable}}{{{columns}}}", head, *rows, r"\bottomrule", r"\end{longtable}", ""])


def breakable(name: str) -> str:
    """A label, a problem's or a module's name, which may be broken after its marks and in long words."""
    pieces = re.findall(r"[A-Za-z0-9]{1,24}|.", name)
    return "".join(text(piece) + (r"\allowbreak{}" if len(piece) == 24 or piece in "-_:. " else "") for piece in pieces)
