"""The derivation as an HTML page.

The page has a mark for every step, needs no network and runs nothing that a problem file contains. Where a browser is
installed, it renders the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
import sympy as sp
from given_steps import with_steps

import annealvi
from annealvi.cli.program import main
from annealvi.show.derivation_page import CheckedStep, check_steps, derivation_page
from derive.dynamics.symbolic_problem import derive_problem
from derive.problem.specification import Problem
from derive.writing.rendering import own_steps

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


class Page(HTMLParser):
    """The parts of a page that the tests read.

    `tags` are pairs (name, attributes) in order, `steps` the classes of the steps' blocks, which are the statuses of
    their checks, and `formulas` the LaTeX of each formula.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.formulas, self._inside = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        self._inside = "tex" in named.get("class", "").split()
        if self._inside:
            self.formulas.append("")

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.formulas[-1] += data

    @property
    def steps(self):
        return [named["class"] for tag, named in self.tags if tag == "details"]


@pytest.fixture(scope="module")
def bimodal():
    derivation = derive_problem(annealvi.load_problem("bimodal"))
    steps = check_steps(derivation)
    return derivation, steps, derivation_page(derivation, steps)


def test_every_step_has_the_mark_of_its_check(bimodal):
    derivation, steps, text = bimodal
    page = Page(text)
    assert page.steps == ["passed"] * len(derivation.written_out)
    for step in steps:
        assert f"the two sides differ by {step.check.statistic:.1e}" in text
    assert [named["id"] for tag, named in page.tags if tag == "details"] == [f"step-{n + 1}" for n in range(len(steps))]


def test_a_wrong_step_is_marked_and_open(bimodal):
    """Only the wrong step is checked anew; the others were checked with the derivation."""
    derivation, (*right, _), _ = bimodal
    last = derivation.steps[-1]
    wrong = replace(
        last, after=tuple(replace(e, value=e.value * sp.Rational(11, 10)) if e.label == "ds" else e for e in last.after)
    )
    spoiled = replace(derivation, steps=(*derivation.steps[:-1], wrong))
    steps = [*right, *check_steps(with_steps(derivation, wrong))]
    text = derivation_page(spoiled, steps)
    assert Page(text).steps == ["passed"] * (len(steps) - 1) + ["failed"]
    assert text.count("<details") == text.count("</details>")
    assert re.search(rf'<details id="step-{len(steps)}" class="failed" open>', text)
    assert "<strong>failed</strong>" in text


def test_a_step_to_the_limit_says_that_it_was_not_compared():
    derivation = derive_problem(annealvi.load_problem("two-scales"), large_dimension=True)
    limits = [step for step in derivation.steps if step.limit]
    assert limits
    only = with_steps(derivation, *limits, derivation.steps[-1])
    assert [step.status for step in check_steps(only)] == ["left"] * len(limits) + ["passed"]


def test_the_page_needs_no_network(bimodal):
    text = bimodal[2]
    for tag, named in Page(text).tags:
        assert tag not in ("link", "img", "iframe", "base")
        assert not {"src", "href", "action"} & set(named)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "@import" not in style
    assert set(re.findall(r"url\(([^:)]*)", style)) == {"data"}


def test_a_name_from_a_problem_file_is_text():
    name = '<script>alert(1)<img src=x onerror="alert(2)">'
    derivation = derive_problem(Problem(name))
    page = Page(derivation_page(derivation, check_steps(with_steps(derivation, derivation.steps[0]))))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in page.tags) == 2


def summary(text):
    """The status of all steps together, and the sentence beside it."""
    status, sentence = re.search(r'<p class="summary (\w+)">(.*?)</p>', text).groups()
    assert f'class="mark {status}"' in sentence
    return status, re.sub("<[^>]*>", "", sentence)


def test_a_page_on_which_not_all_was_compared_says_which_steps_were_not(bimodal):
    derivation, steps, text = bimodal
    status, sentence = summary(text)
    assert status == "passed"
    number = len(derivation.written_out)
    assert len(steps) == number
    assert sentence.startswith(f"✓ holds {number} steps, {number} compared")
    assert "all hold. The largest" in sentence

    left = [CheckedStep(s.step, None, "too wide") for s in steps]
    status, sentence = summary(derivation_page(derivation, [*steps[:-2], *left[-2:]]))
    assert status == "partly"
    assert sentence.startswith(f"◐ partly compared {number} steps, {number - 2} compared")
    assert f"these hold; not compared: steps {number - 1}, {number}." in sentence

    status, sentence = summary(derivation_page(derivation, left))
    assert (status, sentence) == (
        "left",
        f"– not compared {number} steps, none of them compared with its meaning in coordinates.",
    )

    failed = replace(steps[0], check=replace(steps[0].check, statistic=float("nan")))
    status, sentence = summary(derivation_page(derivation, [failed, *steps[1:-1], left[-1]]))
    assert status == "failed"
    assert f"1 failed; not compared: step {number}." in sentence


def drawn(text, folder, fragment=""):
    """The document as a browser has it after loading."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    options = [
        "--headless",
        *QUIET.split(),
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    run = subprocess.run(
        [BROWSER, *options, path.as_uri() + fragment], capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout


def assert_every_formula_is_drawn(text, document):
    formulas = Page(text).formulas
    assert len(formulas) > 40
    assert document.count('class="katex-html"') == len(formulas)
    assert document.count("katex-error") == text.count("katex-error")  # KaTeX's own source has this name


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_renders_every_formula(tmp_path):
    derivation = derive_problem(annealvi.load_problem("learned-weights"))
    steps = (*derivation.general.steps, *own_steps(derivation))
    text = derivation_page(derivation, [CheckedStep(step, None, "only rendered here") for step in steps])
    assert_every_formula_is_drawn(text, drawn(text, tmp_path))


PROBE = """
const found = {refused: []};
addEventListener("securitypolicyviolation", event => found.refused.push(event.effectiveDirective));
addEventListener("load", async () => {
  const all = [...document.querySelectorAll("details")];
  const open = () => all.filter(step => step.open).map(step => step.id);
  const shown = step => step.querySelector("p").checkVisibility();
  const [unfold, fold] = document.querySelectorAll("button");
  found.start = open();
  found.visible = all.filter(shown).map(step => step.id);
  found.marks = all.map(step => {
    const mark = step.querySelector(".mark");
    return [mark.checkVisibility() ? mark.innerText : "", getComputedStyle(mark).color];
  });
  unfold.click();
  found.unfolded = open();
  fold.click();
  found.folded = open();
  all[1].querySelector("summary").click();
  found.clicked = open();
  const changed = new Promise(done => addEventListener("hashchange", done));
  location.hash = "#step-4";
  await changed;
  found.followed = open();
  await document.fonts.ready;
  found.fonts = [...new Set([...document.fonts].map(font => font.status))].sort();
  const result = document.createElement("pre");
  result.id = "found";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser_steps_fold_and_marks_show_and_nothing_else_runs(bimodal, tmp_path):
    derivation, steps, _ = bimodal
    failed = replace(steps[5], check=replace(steps[5].check, statistic=1.0))
    left = CheckedStep(steps[7].step, None, "only rendered here")
    text = derivation_page(derivation, [*steps[:5], failed, steps[6], left, *steps[8:]])
    probe_hash = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    probed = text.replace("script-src ", f"script-src 'sha256-{probe_hash}' ")
    probed = probed.replace("<body>", f"<body><script>{PROBE}</script><script>document.body.id = 'refused'</script>")
    document = drawn(probed, tmp_path, "#step-3")
    assert_every_formula_is_drawn(text, document)
    found = json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', document)[1]))

    ids = [f"step-{n}" for n in range(1, len(steps) + 1)]
    assert found["start"] == found["visible"] == ["step-3", "step-6"]  # the address names step 3; step 6 failed
    assert found["unfolded"] == ids
    assert found["folded"] == []
    assert found["clicked"] == ["step-2"]
    assert found["followed"] == ["step-2", "step-4"]

    marks, colours = zip(*found["marks"], strict=True)
    assert list(marks) == [*["✓ holds"] * 5, "✗ failed", "✓ holds", "– not compared", *["✓ holds"] * (len(steps) - 8)]
    assert len({colours[0], colours[5], colours[7]}) == 3
    assert found["refused"] == ["script-src-elem"]
    assert '<body id="refused"' not in document
    assert "loaded" in found["fonts"]
    assert "error" not in found["fonts"]


def test_the_command_writes_the_page_beside_what_it_prints(tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["derive", "one-component", "--html", str(page)]) == 0
    assert "dm_1/dt" in capsys.readouterr().out
    assert Page(page.read_text(encoding="utf-8")).steps.count("passed") > 5


@pytest.mark.parametrize("path", ["-", "/dev/null/page.html"])
def test_a_page_that_cannot_be_written_is_one_line(path, capsys):
    assert main(["derive", "--html", path]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--html" in error
