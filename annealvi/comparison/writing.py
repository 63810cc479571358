"""Comparisons in words, as JSON, and as a report; equations as the TOML from which they can be read."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

import annealvi
from annealvi.comparison.compare import Comparison, EquationVerdict
from annealvi.comparison.location import Repair
from annealvi.comparison.theirs import Theirs
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.softmax import Softmax
from derive.rules.reduction import CholeskyRoot

UNIT_CONVENTIONS = {
    "R**2": "as for means that are R times a unit vector whose own gradient flow is taken",
    "R**(-2)": "as for unit directions in place of means of length R",
    "w_1": "as where the flow is not divided by the component's weight",
    "1/w_1": "as where the flow is divided by the component's weight",
    "2": "as for a gradient twice as large, or a component weight of 1/2 divided out",
    "1/2": "as for a gradient half as large, or a component weight of 1/2 kept",
}
"""Conventions that change the unit of time, by the factor of the rates."""


class _Printer(StrPrinter):
    """The text of an expression in the grammar of `annealvi.comparison.formulas`."""

    printmethod = "_formula_text"  # no node has it, so that nodes do not print themselves in their own way

    def _print_Expectation(self, e: Expectation) -> str:  # the printer's own naming
        if any(isinstance(v, ChiSquared) for v in e.variables):
            raise ValueError("averages over a chi-squared variable have no text")
        return f"E[{self._print(e.integrand)}]"

    def _print_Softmax(self, e: Softmax) -> str:
        return f"({self._print(e.explicit())})"

    def _print_CholeskyRoot(self, e: CholeskyRoot) -> str:
        return f"sqrt({self._print(e.args[0])})"


def text_of(theirs: Theirs, expression: sp.Expr) -> str:
    """An expression in their names, as it can be read again. Raises ValueError where it has no such text."""
    names = {s: sp.Symbol(name) for s, name in theirs.names.items()}
    return _Printer().doprint(expression.xreplace(names))


def toml_of(theirs: Theirs) -> str:
    """The equations as a TOML file. Raises ValueError where one of them has no text."""
    lines = ["[names]"] if theirs.names else []
    lines += [f'{name} = "{s.name}"' for s, name in theirs.names.items()]
    if theirs.definitions:
        lines += ["", "[definitions]"]
        lines += [f'"{d.name}" = "{text_of(theirs, d.formula)}"' for d in theirs.definitions]
    lines += ["", "[equations]"]
    rates = {f"d{text_of(theirs, s)}/dt": text_of(theirs, rate) for s, rate in theirs.rates.items()}
    return "\n".join([*lines, *(f'"{rate}" = "{text}"' for rate, text in rates.items())]).strip() + "\n"


def as_dict(found: Comparison) -> dict[str, Any]:
    """The comparison as plain values for JSON."""
    return {
        "verdict": found.verdict,
        "time_unit": None if found.time_unit is None else str(found.time_unit),
        "limit": found.limit or None,
        "equations": {v.state.name: _equation(found, v) for v in found.equations},
        "repaired": repaired_toml(found),
        "claims": {v.name: v.as_dict() for v in found.claims},
        "agrees": found.agrees,
        "points": found.points,
        "seed": found.seed,
        "version": annealvi.__version__,
    }


def _equation(found: Comparison, v: EquationVerdict) -> dict[str, Any]:
    worst = None
    if v.worst is not None:
        state = {name: x for name, x in v.worst.items() if name not in ("theirs", "ours")}
        worst = {"state": state, "theirs": v.worst["theirs"], "ours": v.worst["ours"]}
    terms = [r for r in v.repairs if r.place != "missing term"]
    return {
        "verdict": v.verdict,
        "factor": None if v.factor is None else str(v.factor),
        "worst": worst,
        "terms": [_repair(found, r) for r in terms],
        "missing": [found.theirs.written(r.new) for r in v.repairs if r.place == "missing term"],
    }


def _repair(found: Comparison, r: Repair) -> dict[str, Any]:
    written = found.theirs.written
    coefficient = None if r.coefficient is None else written(r.coefficient)
    where = {"definition": r.name} if r.place == "definition" else {}
    return {**where, "term": written(r.old), "coefficient": coefficient, "should_be": written(r.new)}


def repaired_toml(found: Comparison) -> str | None:
    """The repaired equations as TOML; None where they were not repaired or have no text."""
    if found.repaired is None:
        return None
    try:
        return toml_of(found.repaired)
    except ValueError:
        return None


def in_words(found: Comparison) -> str:
    """The verdict for people."""
    parts = [_equations_in_words(found)] if found.equations else []
    if found.claims:
        from annealvi.comparison.claims import words

        parts.append(words.in_words(found.claims))
    return "\n\n".join(parts)


def _equations_in_words(found: Comparison) -> str:
    wrong = [v for v in found.equations if v.verdict in ("different", "factor")]
    missing = [v.state for v in found.equations if v.verdict == "missing"]
    headline = {
        "equal": "equal: the equations are the derived ones",
        "equal-up-to-time-unit": f"equal up to a unit of time: each rate is {found.time_unit} times the derived one",
        "equal-in-limit": f"equal in a limit: {found.limit}",
        "different": f"different: {_listed([_rate(found, v.state) for v in wrong])}" if wrong else "different",
    }[found.verdict]
    convention = UNIT_CONVENTIONS.get(str(found.time_unit))
    if found.verdict == "equal-up-to-time-unit" and convention:
        headline += f" ({convention})"
    lines = [headline]
    if missing:
        lines.append(f"no equation is given for {_listed([_rate(found, s) for s in missing])}")
    if found.verdict == "different":
        if found.time_unit is not None:
            lines.append(f"all others are {found.time_unit} times the derived rates, and so are the values below")
        common = _common_definitions(wrong)
        for r in common:
            rates = _listed([_rate(found, v.state) for v in wrong if r in v.repairs])
            lines += ["", f"{_definition(found, r)}; this makes {rates} right"]
        lines += [line for v in wrong for line in _of_equation(found, v, common)]
        text = repaired_toml(found)
        if text is not None:
            lines += ["With the first repair of each, the equations are right:", "", text.rstrip()]
    lines.append(f"compared at {found.points} points (seed {found.seed}), to 1e-8 of each rate's largest value")
    return "\n".join(lines)


def _common_definitions(wrong: list[EquationVerdict]) -> list[Repair]:
    """The repairs of definitions that make several equations right."""
    repairs = [r for v in wrong for r in v.repairs if r.place == "definition"]
    return [r for r in dict.fromkeys(repairs) if repairs.count(r) > 1]


def _definition(found: Comparison, r: Repair) -> str:
    return f"the definition {r.name} should be {found.theirs.written(r.new)}, not {found.theirs.written(r.old)}"


def _of_equation(found: Comparison, v: EquationVerdict, common: list[Repair]) -> list[str]:
    assert v.worst is not None
    written = found.theirs.written
    place = ", ".join(f"{name} = {x:.4g}" for name, x in v.worst.items() if name not in ("theirs", "ours"))
    lines = ["", f"{_rate(found, v.state)}: {v.worst['theirs']:.6g} in place of {v.worst['ours']:.6g} at {place}"]
    if v.factor is not None:
        lines.append(f"  it is the derived rate times {written(v.factor)}")
    for n, r in enumerate([r for r in v.repairs if r not in common]):
        start = "  or: " if n else "  "
        if r.place == "missing term":
            lines.append(f"{start}the derived term {written(r.new)} is missing")
        elif r.place == "definition":
            lines.append(f"{start}{_definition(found, r)}")
        elif r.coefficient == 0:
            lines.append(f"{start}the term {written(r.old)} should not be there")
        elif r.coefficient == -1:
            lines.append(f"{start}the sign of the term {written(r.old)} is wrong")
        elif r.exchanged is not None:
            found_one, wanted = map(written, r.exchanged)
            lines.append(f"{start}the term {written(r.old)} has {found_one} in the place of {wanted}: {written(r.new)}")
        else:
            factor = written(r.coefficient if r.coefficient is not None else sp.S.One)
            lines.append(f"{start}the term {written(r.old)} should be multiplied by {factor}: {written(r.new)}")
    if not v.repairs:
        lines.append("  no repair of one term, factor or symbol was found")
    return lines


def report(found: Comparison, problem: str) -> str:
    """A report in Markdown that can be attached to a review."""
    parts = [f"# {found.theirs.source} and what is derived for {problem}"]
    if found.equations:
        rows = ["| rate | verdict | theirs | derived |", "|---|---|---|---|"]
        for v in found.equations:
            values = ("", "") if v.worst is None else (f"{v.worst['theirs']:.6g}", f"{v.worst['ours']:.6g}")
            rows.append(f"| {_rate(found, v.state)} | {v.verdict} | {values[0]} | {values[1]} |")
        parts += [f"```\n{_equations_in_words(found)}\n```", "\n".join(rows)]
        parts.append("Values are those at the point where the two differ most.")
    if found.claims:
        from annealvi.comparison.claims import words

        parts.append(words.markdown(found.claims))
    return "\n\n".join([*parts, f"annealvi {annealvi.__version__}"]) + "\n"


def _rate(found: Comparison, state: sp.Symbol) -> str:
    return f"d{found.theirs.written(state)}/dt"


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
