"""The derivation as a page: a mark for every step, nothing from a network, nothing that a problem file could run; rendered in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import sympy as sp

import annealvi
from annealvi.cli import main
from annealvi.derivation_page import CheckedStep, check_steps, derivation_page
from derive.problem import Problem
from derive.symbolic_problem import derive_problem

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"


class Page(HTMLParser):
    """tags: (name, attributes) in order. marks: statuses of the steps' marks. formulas: the LaTeX of each."""

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
    assert page.steps == ["passed"] * len(derivation.steps)
    for step in steps:
        assert f"the two sides differ by {step.check.statistic:.1e}" in text
    assert [named["id"] for tag, named in page.tags if tag == "details"] == [f"step-{n + 1}" for n in range(len(steps))]


def test_a_wrong_step_is_marked_and_open(bimodal):
    derivation, _, _ = bimodal
    last = derivation.steps[-1]
    wrong = replace(last, after=tuple(replace(e, value=e.value * sp.Rational(11, 10)) if e.label == "ds" else e for e in last.after))
    spoiled = replace(derivation, steps=(*derivation.steps[:-1], wrong))
    steps = check_steps(spoiled)
    text = derivation_page(spoiled, steps)
    assert Page(text).steps == ["passed"] * (len(steps) - 1) + ["failed"]
    assert text.count("<details") == text.count("</details>")
    assert re.search(r'<details id="step-15" class="failed" open>', text)
    assert "<strong>failed</strong>" in text


def test_a_step_to_the_limit_says_that_it_was_not_compared():
    derivation = derive_problem(annealvi.load_problem("two-scales"), large_dimension=True)
    limits = [step for step in derivation.steps if step.limit]
    assert limits
    only = replace(derivation, steps=(*derivation.steps[:1], *limits))
    assert [step.status for step in check_steps(only)] == ["passed"] + ["left"] * len(limits)


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
    page = Page(derivation_page(derivation, check_steps(replace(derivation, steps=derivation.steps[:1]))))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in page.tags) == 2


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("name", ["bimodal", "learned-weights"])
def test_a_browser_renders_every_formula(name, tmp_path):
    derivation = derive_problem(annealvi.load_problem(name))
    text = derivation_page(derivation, [CheckedStep(step, None, "only rendered here") for step in derivation.steps])
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        *QUIET.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    run = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    drawn = run.stdout
    formulas = Page(text).formulas
    assert len(formulas) > 40
    assert drawn.count('class="katex-html"') == len(formulas)
    assert drawn.count("katex-error") == text.count("katex-error")  # KaTeX's own source names the class


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
