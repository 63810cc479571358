"""Derived equations as LaTeX with their origin: one file each, and a bundle of macros for any document.

An equation carries the rule that derived it, the checks that it passed and the kernel that computes it, so that a
reader can go from each of these to the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annealvi.verification.check import Check
from derive.asymptotics.hold_and_quench import DRIFT, REPULSION, SLOPE, SUM, Pair
from derive.asymptotics.limits import Asymptotics
from derive.asymptotics.linear_stability import BimodalStability
from derive.dynamics.derivation import Derivation
from derive.objects.line_breaking import align, broken, terms_of, terms_tex
from derive.objects.notation import apart_in, tex
from derive.objects.step import Equation, Step
from derive.writing.named_logits import with_named_logits
from derive.writing.rendering import final_equations, same_value
from derive.writing.slug import slug

COLUMN = 60
"""Number of symbols that fit on a line of the article."""

KERNEL = "kernels.integrate.kernel.Kernel.rhs_at_beta"
NO_KERNEL = "no kernel on this page"


@dataclass(frozen=True)
class PaperEquation:
    """One equation of the paper.

    Attributes
    ----------
    label : str
        PROBLEM:NAME, unique.
    lines : tuple of str
        LaTeX lines, aligned at `&`.
    rule : str
        The rule or module that derives the equation.
    kernel : str
        The function or module that evaluates the equation in numbers.
    checks : tuple of Check
        Checks of this equation alone.
    whole : tuple of Check
        Checks of the system that contains the equation.
    test : str
        The test that compares the equation, by pytest's name; empty for a user's own mixture.
    """

    label: str
    lines: tuple[str, ...]
    rule: str
    kernel: str
    checks: tuple[Check, ...] = ()
    whole: tuple[Check, ...] = ()
    test: str = ""

    @property
    def file(self) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", self.label).strip("-") + ".tex"

    @property
    def macro(self) -> str:
        """The equation's LaTeX command, which has letters only: bimodal:dm_1 is \\AVbimodalDmOne."""
        return "\\AV" + in_letters(self.label)

    @property
    def latex(self) -> str:
        """The equation for display mathematics; several lines are in `aligned`."""
        if len(self.lines) == 1:
            return self.lines[0].replace("&=", "=")
        return "\\begin{aligned}\n" + " \\\\\n".join(self.lines) + "\n\\end{aligned}"

    @property
    def passed(self) -> bool:
        return all(check.passed for check in (*self.checks, *self.whole))

    def as_file(self) -> str:
        """A numbered display with its label, under a comment with its origin."""
        head = [f"% {self.label}", f"% from: {self.rule}", f"% computed by: {self.kernel}"]
        head += [f"% tested by: {self.test}"] if self.test else []
        head += [f"% {in_words(c)}" for c in self.checks]
        head += [f"% the system as a whole {in_words(c)}" for c in self.whole]
        return "\n".join([*head, align([_with_label(self.lines, f"eq:{self.label}")], "align")]) + "\n"

    def as_dict(self) -> dict:
        found = {
            "label": self.label,
            "macro": self.macro,
            "latex": self.latex,
            "rule": self.rule,
            "kernel": self.kernel,
            "test": self.test,
        }
        return {**found, "checks": _as_dicts(self.checks), "checks_of_the_system": _as_dicts(self.whole)}


def _as_dicts(checks: Iterable[Check]) -> list[dict]:
    return [{"name": c.name, "statistic": c.statistic, "bound": c.bound, "passed": c.passed} for c in checks]


def in_letters(label: str) -> str:
    """A label in letters only, for a macro's name; the first word keeps its case.

    `And` stands between indices of several digits, since M_1_23 is not M_12_3.
    """
    between = r"|(?<=\d)_(?=\d)" if apart_in([label.rsplit(":", 1)[-1].removeprefix("d")]) else ""
    first, *others = re.findall(rf"[A-Za-z]+|\d|'|\+{between}", label)
    return _IN_LETTERS.get(first, first) + "".join(_IN_LETTERS.get(w, w[0].upper() + w[1:]) for w in others)


_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_IN_LETTERS = dict(zip("0123456789", _DIGITS, strict=True)) | {"'": "Prime", "+": "Plus", "_": "And"}


def in_words(check: Check) -> str:
    return f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.statistic:.2g}, bound {check.bound:.2g}"


def _with_label(lines: Sequence[str], label: str) -> list[str]:
    return [*(rf"{line} \nonumber" for line in lines[:-1]), rf"{lines[-1]} \label{{{label}}}"]


def system_equations(
    problem: str, derivation: Derivation, steps: Sequence[Check], whole: Sequence[Check] = (), test: str = ""
) -> tuple[PaperEquation, ...]:
    """The equations of the closed system: definitions, then rates.

    steps: the checks of the derivation's steps; each equation gets those of the steps behind it. whole: the checks of
    all rates together by grids and kernels, if they ran.
    """
    states = {f"d{s.name}": n for n, s in enumerate(derivation.system.states)}
    found = []
    for e in with_named_logits(final_equations(derivation)):
        name = re.sub(r"\(.*", "", e.label)
        kernel = (
            NO_KERNEL if not whole else f"{KERNEL}, column {states[name]}" if name in states else f"{KERNEL}, within"
        )
        rules = {f"step: {step.rule}" for step in _steps_behind(e.label, derivation)}
        found.append(
            PaperEquation(
                f"{slug(problem)}:{name}",
                tuple(broken(e.left, terms_tex(e, COLUMN), COLUMN)),
                _rule_of(e, derivation),
                kernel,
                tuple(c for c in steps if c.name in rules),
                tuple(whole),
                test,
            )
        )
    return tuple(found)


def general_equations(derivation: Derivation, steps: Sequence[Check], test: str = "") -> tuple[PaperEquation, ...]:
    """The equations for any K and L: the velocity of a mean, and the closed rates with their definitions.

    steps: the checks of the derivation's steps, which compare the general ones at its own K and L.
    """
    general = derivation.general
    found = []
    for e in (*general.velocities, *general.closed):
        behind = [step.rule for step in general.steps if _changes(step, e.label)]
        found.append(
            PaperEquation(
                f"general:{e.label}",
                tuple(broken(e.left, terms_tex(e, COLUMN), COLUMN)),
                behind[-1],
                "derive.dynamics.instances.Instance",
                tuple(c for c in steps if c.name.removeprefix("step: ") in behind),
                test=test,
            )
        )
    return tuple(found)


def _steps_behind(label: str, derivation: Derivation) -> list[Step]:
    """The steps that introduce or change an equation.

    A step names the equation by its own label, or by the label of the overlap of which the state is a multiple.
    """
    names = dict(derivation.overlaps.names)
    labels = {
        label,
        *(f"d{names[inner].name}" for state, inner, _ in derivation.overlaps.moving if label == f"d{state.name}"),
    }
    return [step for step in derivation.written_out if any(_changes(step, name) for name in labels)]


def _changes(step: Step, label: str) -> bool:
    before, after = ({e.label: e.value for e in side} for side in (step.before, step.after))
    return label in after and not same_value(before.get(label), after[label])


def _rule_of(equation: Equation, derivation: Derivation) -> str:
    """The rule of the last step that introduced or changed the equation."""
    behind = [step.rule for step in derivation.written_out if _changes(step, equation.label)]
    return behind[-1] if behind else "naming of the logits"


_LIMITS, _IN_TIME = "tests/annealvi/test_limit_checks.py::", "tests/derive/test_limits_in_time.py::"


def limit_equations(problem: str, limits: Asymptotics, checks: Mapping[str, Check]) -> tuple[PaperEquation, ...]:
    """The equations of the theory's limits. checks: by the limits' names."""
    expanded, orders = (
        {e.name for e in limits.expansions},
        "tests/derive/test_expansions.py::test_what_is_left_out_is_of_the_stated_order",
    )
    groups = (  # a name in several groups belongs to the last one
        (limits.latex(), "derive.asymptotics.large_separation", orders),
        ((n for n in expanded if n.endswith("small overlaps")), "derive.asymptotics.small_overlaps", orders),
        ((n for n in expanded if n.endswith("near components")), "derive.asymptotics.near_equal", orders),
        (limits.path.latex(), "derive.asymptotics.transverse_growth", f"{_LIMITS}test_a_wrong_identity_fails"),
        (limits.hot.latex(), "derive.asymptotics.high_temperature", f"{_LIMITS}test_a_wrong_identity_fails"),
        (limits.slow.latex(), "derive.asymptotics.quasi_static", f"{_LIMITS}test_a_wrong_identity_fails"),
        ((e.name for e in limits.hot.path), "derive.asymptotics.high_temperature", f"{_IN_TIME}test_high_temperature"),
        ((e.name for e in limits.slow.expansions), "derive.asymptotics.quasi_static", f"{_IN_TIME}test_slow_schedules"),
        (
            (f"hot growth, {g.kind}" for g in limits.growth),
            "derive.asymptotics.growth_exponents",
            f"{_IN_TIME}test_hot_growth",
        ),
        (
            (n for n in expanded if n.endswith("small probability")),
            "derive.asymptotics.growth_exponents",
            f"{_IN_TIME}test_small_probabilities",
        ),
    )
    origins = {name: origin for names, *origin in groups for name in names}
    found = []
    for name, latex in limits.latex().items():
        module, test = origins[name]
        behind = (checks[name],) if name in checks else ()
        evaluated = "annealvi.verification.limit_identities" if behind else NO_KERNEL
        found.append(
            PaperEquation(f"{problem}:{slug(name)}", tuple(_lines(latex)), module, evaluated, behind, test=test)
        )
    return tuple(found)


def stability_equations(
    problem: str, stability: BimodalStability, checks: Mapping[str, Check]
) -> tuple[PaperEquation, ...]:
    """J, its determinant and their averages at each corner of the overlaps. checks: by the ends of the labels."""
    found = []
    for corner in (stability.collapsed, stability.mixed, stability.separated):
        behind = {part: (checks[f"{corner.name}-{part}"],) for part in ("matrix", "determinant")}
        parts: dict[str, tuple[str, ...]] = {
            "matrix": (f"J &= {tex(corner.matrix)}",),
            "determinant": (rf"\det J &= {tex(corner.determinant)}",),
            "averages": tuple(f"{tex(symbol)} &= {tex(value)}" for symbol, value in corner.averages),
        }
        for part, lines in parts.items():
            compared = part if part in behind else "matrix"
            found.append(
                PaperEquation(
                    f"{problem}:{corner.name}-{part}",
                    lines,
                    "derive.asymptotics.linear_stability",
                    "annealvi.verification.corners",
                    behind[compared],
                    test=f"{_LIMITS}test_a_wrong_{compared}_fails",
                )
            )
    return tuple(found)


def hold_equations(problem: str, pair: Pair, checks: Mapping[str, Check]) -> tuple[PaperEquation, ...]:
    """The protected pair's linear flow, and the slope of its switching function per (ψ'/ψ) e^{∫κ}.

    checks: by the equations' names.
    """
    names = {DRIFT: "F(0)", SLOPE: "F'(0)", REPULSION: "G(-1)"}
    lines = {
        "protected-sum": (r"\dot a", pair.drift + pair.damping * SUM),
        "protected-difference": (r"\dot b / b", pair.growth),
        "switching-slope": (r"\dot S\,\big/\,\tfrac{\psi'}{\psi}e^{\int\kappa}", pair.switching_slope()),
    }
    module, evaluated = "derive.asymptotics.hold_and_quench", "annealvi.verification.protected_pair"
    test = f"{_LIMITS}test_what_is_said_of_holds_passes_and_fails_where_it_is_wrong"
    return tuple(
        PaperEquation(
            f"{problem}:{name}", (f"{left} &= {tex(value, names)}",), module, evaluated, (checks[name],), test=test
        )
        for name, (left, value) in lines.items()
    )


def _lines(latex: str) -> list[str]:
    left, _, right = latex.partition(" = ")
    return broken(left, terms_of(right), COLUMN)


def bundle(equations: Iterable[PaperEquation]) -> str:
    """All equations as macros, for display mathematics in any document that uses amsmath."""
    head = (
        "% Equations of annealed variational inference on Gaussian mixtures, as derived by "
        "annealvi. Needs amsmath and amssymb.\n"
    )
    head += "% \\input this file; then \\[ \\AVbimodalDmOne \\] shows an equation.\n"
    found = {e.macro: e for e in equations}
    return head + "".join(f"% {e.label}\n\\newcommand{{{macro}}}{{{e.latex}}}\n" for macro, e in found.items())
