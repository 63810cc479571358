"""The derivation as one self-contained HTML page.

Steps fold, mathematics is rendered, and each step has its check beside it. The page treats everything that comes from a
problem file as text, never as markup or script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from annealvi import __version__
from annealvi.verification.check import Check
from annealvi.verification.derivation_steps import derivation_checks
from derive.dynamics.derivation import Derivation
from derive.objects.line_breaking import broken, terms_tex
from derive.objects.short_repr import short_repr
from derive.objects.step import Step
from derive.writing.named_logits import with_named_logits
from derive.writing.rendering import (
    changed_equations,
    closed_legend,
    final_equations,
    general_legend,
    headline,
    with_formulas,
)

LINE = 70
"""Symbols on a line of a wide screen. On a narrow screen a long formula scrolls."""

MARKS = {
    "passed": ("✓", "holds"),
    "partly": ("◐", "partly compared"),
    "left": ("–", "not compared"),
    "failed": ("✗", "failed"),
}
"""The sign and the word for the status of a step, and of all steps together."""


@dataclass(frozen=True)
class CheckedStep:
    """A step as it is shown, and its check or the reason why it was not compared.

    A general step is shown in index notation, and checked at the problem's own numbers of modes and components.
    """

    step: Step
    check: Check | None
    reason: str = ""

    __repr__ = short_repr

    @property
    def status(self) -> str:
        return "left" if self.check is None else "passed" if self.check.passed else "failed"


def check_steps(derivation: Derivation, progress: Callable[[str], None] | None = None) -> tuple[CheckedStep, ...]:
    """Check every step of a derivation. progress: called with a line after each check."""
    outcomes = derivation_checks(derivation)
    checked: list[CheckedStep] = []
    beyond = ""
    general = derivation.general.steps
    for n, step in enumerate(derivation.written_out):
        shown = general[n] if n < len(general) else step
        if step.limit:
            checked.append(CheckedStep(shown, None, "a limit d → ∞ is no equality"))
            continue
        outcome = beyond or next(outcomes)
        if isinstance(outcome, str):
            beyond = outcome
            checked.append(CheckedStep(shown, None, "its averages run over too many variables for 30 digits"))
            continue
        if outcome.name != f"step: {step.rule}":
            raise AssertionError(f"{outcome.name!r} is no check of the step {step.rule!r}")
        checked.append(CheckedStep(shown, outcome))
        if progress is not None:
            progress(f"checked: {step.rule}")
    return tuple(checked)


def derivation_page(derivation: Derivation, steps: Sequence[CheckedStep]) -> str:
    """Write a derivation as HTML. steps: all steps of the derivation, from `check_steps`."""
    title, setting = f"Derivation: {derivation.system.label}", derivation.setting
    numbered = [_step(n, checked, derivation) for n, checked in enumerate(steps, 1)]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(headline(derivation))}.</p>",
        f'<p class="summary {_verdict(steps)}">{_summary(steps)}</p>',
        '<p class="buttons"><button type="button" data-open="1">Unfold all</button> <button '
        'type="button">Fold all</button></p>',
        '<h2 id="general">For any <i>K</i> and <i>L</i></h2>',
        *_legend(general_legend(derivation)),
        *numbered[: len(derivation.general.steps)],
        f'<h2 id="own">For <i>K</i> = {setting.target.size} and <i>L</i> = {setting.proposal.size}</h2>',
        *numbered[len(derivation.general.steps) :],
        '<h2 id="closed">The closed system</h2>',
        *_legend(closed_legend(derivation)),
        *(
            _display(broken(e.left, terms_tex(e, LINE), LINE), e.label)
            for e in with_named_logits(final_equations(derivation))
        ),
        f"<footer>annealvi {escape(__version__)}. The setting is that of arXiv:2602.12923 and arXiv:2410.13300; "
        "all formulas are derived anew.</footer>",
    ]
    body = "\n".join(parts)
    scripts = [_packaged("katex/katex.min.js"), _packaged("derivation_page.js")]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_fonts_inlined(_packaged("katex/katex.min.css"))}</style>
<style>{_packaged("derivation_page.css")}</style>
</head>
<body>
<main>
{body}
</main>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def _policy(scripts: Iterable[str]) -> str:
    """The content security policy, which allows these scripts, the page's own styles and fonts, and nothing else."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; font-src data:; "
        f"base-uri 'none'; form-action 'none'"
    )


def _verdict(steps: Sequence[CheckedStep]) -> str:
    """The status of all steps together: "passed" only if each was compared, "left" if none was."""
    found = {s.status for s in steps}
    if "failed" in found:
        return "failed"
    return "partly" if found == {"passed", "left"} else "passed" if found == {"passed"} else "left"


def _summary(steps: Sequence[CheckedStep]) -> str:
    checks = [s.check for s in steps if s.check is not None]
    mark = _mark(_verdict(steps))
    if not checks:
        return f"{mark} {len(steps)} steps, none of them compared with its meaning in coordinates."
    failed, left = sum(not c.passed for c in checks), [str(n) for n, s in enumerate(steps, 1) if s.check is None]
    verdict = f"{failed} <strong>failed</strong>" if failed else "these hold" if left else "all hold"
    rest = f"; not compared: step{'s' if len(left) > 1 else ''} {', '.join(left)}" if left else ""
    compared = f"{len(steps)} steps, {len(checks)} compared with their meaning in coordinates to 30 digits"
    worst = f"The largest relative difference is {max(c.statistic for c in checks):.1e}."
    return f"{mark} {compared}: {verdict}{rest}. {worst}"


def _step(number: int, checked: CheckedStep, derivation: Derivation) -> str:
    changed, remark = changed_equations(checked.step, derivation)
    check = checked.check
    if check is None:
        outcome = f"Not compared: {checked.reason}."
    else:
        verdict = "Holds" if check.passed else "FAILED"
        outcome = (
            f"{verdict}: the two sides differ by {check.statistic:.1e}, at most "
            f"{check.bound:.0e} is allowed. {check.note}."
        )
    return "\n".join(
        [
            f'<details id="step-{number}" class="{checked.status}"{" open" if checked.status == "failed" else ""}>',
            f'<summary><span class="number">{number}</span> <span class="rule">{escape(checked.step.rule)}</span> '
            f"{_mark(checked.status)}</summary>",
            f"<p>{_in_html(with_formulas(checked.step.statement))}</p>",
            *(_display(broken(e.left, terms_tex(e, LINE), LINE)) for e in with_named_logits(changed)),
            *([f"<p>{escape(remark)}</p>"] if remark else []),
            f'<p class="check">{_in_html(with_formulas(outcome))}</p>',
            "</details>",
        ]
    )


def _mark(status: str) -> str:
    sign, word = MARKS[status]
    return f'<span class="mark {status}">{sign} {word}</span>'


def _display(lines: Sequence[str], label: str = "") -> str:
    latex = (
        lines[0].replace("&=", "=")
        if len(lines) == 1
        else "\\begin{aligned}" + " \\\\[0.3em] ".join(lines) + "\\end{aligned}"
    )
    anchor = f' id="eq-{escape(re.sub(r"[^A-Za-z0-9_]+", "-", label))}"' if label else ""
    return f'<div class="tex display"{anchor}>{escape(latex)}</div>'


def _legend(lines: Iterable[str]) -> Iterator[str]:
    """A list of sentences that contain $mathematics$."""
    yield "<ul>"
    for line in lines:
        yield f"<li>{_in_html(line)}</li>"
    yield "</ul>"


def _in_html(line: str) -> str:
    """A sentence that contains $mathematics$."""
    # A word joiner keeps a comma on the line of the formula before it.
    pieces = ["\u2060" + piece if piece[:1] in tuple(".,;:)") else piece for piece in line.split("$")]
    return "".join(f'<span class="tex">{escape(p)}</span>' if n % 2 else escape(p) for n, p in enumerate(pieces))


def _packaged(path: str) -> str:
    return (resources.files("annealvi.show") / path).read_text(encoding="utf-8")


def _fonts_inlined(css: str) -> str:
    """The style sheet with each font's woff2 file as data, and no other source of fonts."""

    def inlined(match: re.Match[str]) -> str:
        content = (resources.files("annealvi.show") / "katex" / "fonts" / match[1]).read_bytes()
        return f'src:url(data:font/woff2;base64,{base64.b64encode(content).decode()}) format("woff2")'

    return re.sub(r'src:url\(fonts/([\w-]+\.woff2)\) format\("woff2"\)[^;}]*', inlined, css)
