"""Comparisons in words and as JSON; equations as the TOML from which they can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

import annealvi
from annealvi.comparison.compare import Comparison, EquationVerdict
from annealvi.comparison.evidence.digits import DIGITS
from annealvi.comparison.location.repairs import Repair
from annealvi.comparison.reading.formulas import NORMAL
from annealvi.comparison.reading.theirs import Theirs
from annealvi.comparison.writing.latex import tex_of
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.softmax import Softmax
from derive.rules.reduction import CholeskyRoot

Pen = Callable[[sp.Expr], str]
"""How formulas are written: as text, or in LaTeX."""
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
    """The text of an expression in the grammar of `annealvi.comparison.reading.formulas`."""

    printmethod = "_formula_text"  # no node has it, so that nodes do not print themselves in their own way

    def _print_Expectation(self, e: Expectation) -> str:  # the printer's own naming
        if any(isinstance(v, ChiSquared) for v in e.variables):
            raise ValueError("averages over a chi-squared variable have no text")
        if any(inner.free_symbols & set(e.variables) for inner in e.integrand.atoms(Expectation)):
            raise ValueError("an average of an average over another variable has no text")
        return f"E[{self._print(e.integrand)}]"

    def _print_Softmax(self, e: Softmax) -> str:
        return f"({self._print(e.explicit())})"

    def _print_Abs(self, e: sp.Abs) -> str:
        return f"abs({self._print(e.args[0])})"

    def _print_Max(self, e: sp.Max) -> str:
        return f"max({', '.join(map(self._print, e.args))})"

    def _print_Min(self, e: sp.Min) -> str:
        return f"min({', '.join(map(self._print, e.args))})"

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
    if any(NORMAL.fullmatch(a.name) for d in theirs.definitions for a in d.arguments if d.applications):
        raise ValueError("an argument named like a normal variable has no text")
    # Definitions that contain a variable of an average are written out in the averages.
    definitions = [d for d in theirs.definitions if d.applications]
    if definitions:
        lines += ["", "[definitions]"]
        lines += [f'"{d.name}" = "{text_of(theirs, d.formula)}"' for d in definitions]
    lines += ["", "[equations]"]
    rates = {f"d{theirs.variable(s)}/dt": text_of(theirs, rate) for s, rate in theirs.rates.items()}
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
        "digits": found.digits,
        "identical": found.identical,
        "seed": found.seed,
        "version": annealvi.__version__,
    }


def _equation(found: Comparison, v: EquationVerdict) -> dict[str, Any]:
    worst = None
    if v.worst is not None:
        state = {name: x for name, x in v.worst.items() if name not in ("theirs", "ours")}
        theirs = v.worst["theirs"] if math.isfinite(v.worst["theirs"]) else None
        worst = {"state": state, "theirs": theirs, "ours": v.worst["ours"]}
    terms = [(n, part) for n, r in enumerate(v.repairs) for part in r.parts or (r,) if r.place != "missing term"]
    return {
        "rate": rate_name(found, v.state),
        "verdict": v.verdict,
        "factor": None if v.factor is None else str(v.factor),
        "worst": worst,
        "terms": [{"repair": n, **_repair(found, r)} for n, r in terms],
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


def repaired_text(found: Comparison) -> str | None:
    """The repaired equations as they were given, in TOML or LaTeX; None where they were not repaired."""
    return tex_of(found.repaired) if found.repaired is not None and found.theirs.tex else repaired_toml(found)


def in_words(found: Comparison) -> str:
    """The verdict for people."""
    parts = [equations_in_words(found)] if found.equations else []
    if found.claims:
        from annealvi.comparison.claims import words

        parts.append(words.in_words(found.claims))
    return "\n\n".join(parts)


def equations_in_words(found: Comparison) -> str:
    wrong = [v for v in found.equations if v.verdict in ("different", "factor")]
    missing = [v.state for v in found.equations if v.verdict == "missing"]
    headline = {
        "equal": f"equal{_to_digits(found)}: the equations are the derived ones",
        "equal-up-to-time-unit": f"equal up to a unit of time{_to_digits(found)}: each rate is {found.time_unit} "
        "times the derived one",
        "equal-in-limit": f"equal in a limit: {found.limit}",
        "different": f"different: {_listed([rate_name(found, v.state) for v in wrong])}" if wrong else "different",
    }[found.verdict]
    convention = UNIT_CONVENTIONS.get(str(found.time_unit))
    if found.verdict == "equal-up-to-time-unit" and convention:
        headline += f" ({convention})"
    lines = [headline]
    if missing:
        lines.append(f"no equation is given for {_listed([rate_name(found, s) for s in missing])}")
    if found.verdict == "different":
        if found.time_unit is not None:
            lines.append(f"all others are {found.time_unit} times the derived rates, and so are the values below")
        common = _common_definitions(wrong)
        for r in common:
            rates = _listed([rate_name(found, v.state) for v in wrong if r in v.repairs])
            lines += ["", f"{_definition(r, found.theirs.written)}; this makes {rates} right"]
        lines += [line for v in wrong for line in _of_equation(found, v, common)]
        text = repaired_text(found)
        if text is not None:
            lines += ["With the first repair of each, the equations are right:", "", text.rstrip()]
    if found.theirs.left_aside:
        lines.append("left aside, as no rate and no definition of a new symbol: " + "; ".join(found.theirs.left_aside))
    if found.digits is not None and found.digits < DIGITS:
        lines.append("exact formulas agree to 30 digits: here a number has fewer, or a small term is wrong")
    if found.identical:
        lines.append("SymPy turns each into the other by rearrangement")
    precise = "" if found.digits is None else f", and at three of them to {found.digits} digits"
    lines.append(f"compared at {found.points} points (seed {found.seed}) to 1e-8 of each rate's largest value{precise}")
    return "\n".join(lines)


def _to_digits(found: Comparison) -> str:
    return "" if found.digits is None or found.digits >= DIGITS else f" to {found.digits} digits"


def _common_definitions(wrong: list[EquationVerdict]) -> list[Repair]:
    """The repairs of definitions that make several equations right."""
    repairs = [r for v in wrong for r in v.repairs if r.place == "definition"]
    return [r for r in dict.fromkeys(repairs) if repairs.count(r) > 1]


def _definition(r: Repair, write: Pen, name: Callable[[str], str] = str) -> str:
    return f"the definition {name(r.name)} should be {write(r.new)}, not {write(r.old)}"


def _of_equation(found: Comparison, v: EquationVerdict, common: list[Repair]) -> list[str]:
    assert v.worst is not None
    place = ", ".join(f"{name} = {x:.4g}" for name, x in v.worst.items() if name not in ("theirs", "ours"))
    value = f"{v.worst['theirs']:.6g}" if math.isfinite(v.worst["theirs"]) else "no finite number"
    lines = ["", f"{rate_name(found, v.state)}: {value} in place of {v.worst['ours']:.6g} at {place}"]
    told = sentences(v, found.theirs.written, leave=common)
    return lines + [f"  {sentence}" for sentence in told]


def sentences(
    v: EquationVerdict,
    write: Pen,
    name: Callable[[str], str] = str,
    leave: Sequence[Repair] = (),
    alternative: str = "or: ",
) -> list[str]:
    """What is wrong with an equation, in words.

    write, name: how formulas and names of definitions are written. leave: the repairs that are told elsewhere.
    alternative: what stands before all repairs but the first.
    """
    lines = []
    if v.factor is not None and v.verdict == "factor":
        lines.append(f"it is the derived rate times {write(v.factor)}")
    for n, r in enumerate([r for r in v.repairs if r not in leave]):
        lines.append((alternative if n else "") + _sentence(r, write, name))
    if not v.repairs and v.verdict == "different":
        lines.append("no repair was found: neither of one or two terms, nor of one definition")
    return lines


def _sentence(r: Repair, write: Pen, name: Callable[[str], str]) -> str:
    if r.parts:
        return "; and ".join(_sentence(part, write, name) for part in r.parts)
    if r.place == "missing term":
        return f"the derived term {write(r.new)} is missing"
    if r.place == "definition":
        return _definition(r, write, name)
    if r.coefficient == 0:
        return f"the term {write(r.old)} should not be there"
    if r.coefficient == -1:
        return f"the sign of the term {write(r.old)} is wrong"
    if r.exchanged is not None:
        present, wanted = map(write, r.exchanged)
        return f"the term {write(r.old)} has {present} in the place of {wanted}: {write(r.new)}"
    assert r.coefficient is not None
    return f"the term {write(r.old)} should be multiplied by {write(r.coefficient)}: {write(r.new)}"


def rate_name(found: Comparison, state: sp.Symbol) -> str:
    return f"d{found.theirs.variable(state)}/dt"


def _listed(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
