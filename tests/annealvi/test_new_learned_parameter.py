"""A new learned parameter of the components needs the files that CONTRIBUTING names, and no other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT

EDITS = {
    "derive/objects/parameters.py": {
        "PARAMETERS = (WEIGHTS, SCALES)": (
            'TAILS = Parameter("tails", "alpha", r"\\alpha", math.inf, shared=False)\n'
            "PARAMETERS = (WEIGHTS, SCALES, TAILS)"
        ),
    },
    "derive/problem/specification.py": {
        "    means: tuple[tuple[float, ...], ...] = ((3.0,), (-3.0,))\n    scales: tuple[float, ...] = (1.0, 1.0)\n": (
            "    means: tuple[tuple[float, ...], ...] = ((3.0,), (-3.0,))\n    scales: tuple[float, ...] = (1.0, 1.0)\n"
            "    tails: tuple[float, ...] = (1.0, 1.0)\n"
        ),
        "    radius: float | tuple[float, ...] = 3.0\n": "    radius: float | tuple[float, ...] = 3.0\n"
        "    tails: tuple[float, ...] = (1.0, 1.0)\n",
        "        keep(self, weights=weights, scales=scales, radius=radius, covariances=covariances)\n": (
            '        tails = positives("proposal.tails", self.tails)\n'
            "        keep(self, weights=weights, scales=scales, radius=radius, covariances=covariances, tails=tails)\n"
        ),
    },
    "derive/objects/mixtures.py": {
        "        span: Sequence[SpanLaw] = (),\n": (
            "        span: Sequence[SpanLaw] = (),\n        tails: sp.Tuple = (),\n"
        ),
        "(weights, means, scales, span))": "(weights, means, scales, span, tails))",
        "    @property\n    def size(self) -> int:": (
            "    @property\n    def tails(self) -> sp.Tuple:\n        return self.args[6]\n\n"
            "    @property\n    def size(self) -> int:"
        ),
    },
    "derive/rules/coordinates.py": {
        "import SCALES, WEIGHTS, Parameter": "import SCALES, TAILS, WEIGHTS, Parameter",
        "class LogitSlope(Slope)": (
            'class LogTailSlope(Slope):\n    parameter, letter, jacobian = TAILS, "kappa", "∂w_j/∂κ_i = 0"\n\n'
            "    @classmethod\n    def rate(cls, i: sp.Expr, rate: sp.Expr) -> sp.Expr:\n"
            '        """The slope is made up."""\n'
            "        return super().rate(i, -PROPOSAL.weight(i))\n\n\n"
            "class LogitSlope(Slope)"
        ),
    },
    "derive/dynamics/learned.py": {
        "import LogitSlope, LogScaleSlope,": "import LogitSlope, LogScaleSlope, LogTailSlope,",
        '        "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",\n    ),\n': (
            '        "σ_i = exp(τ_i) and dτ_i/dt = −∂𝓛/∂τ_i give dσ_i/dt = σ_i dτ_i/dt.",\n    ),\n'
            '    LearnedParameter(LogTailSlope, "flow of the tails", "α_i = exp(κ_i)."),\n'
        ),
    },
    "kernels/particles/shapes.py": {
        'PARAMETERS = ("weights", "scales")\n': 'PARAMETERS = ("weights", "scales", "tails")\n',
        "WEIGHTS, SCALES =": "WEIGHTS, SCALES, TAILS =",
        "    log_ratios, stretches = sums\n": "    log_ratios, stretches, tails = sums\n    tails += 1.0 * members\n",
        "    return log_ratios, stretches\n": "    return log_ratios, stretches, tails\n",
        "        if learns[SCALES]:\n": "        if learns[TAILS]:\n"
        "            logs[TAILS, replica, i] -= dt * values[WEIGHTS, replica, i] * slopes[TAILS, replica, i]\n"
        "            values[TAILS, replica, i] = math.exp(logs[TAILS, replica, i])\n"
        "        if learns[SCALES]:\n",
    },
}
"""The lines that the parameter adds to each file that the recipe names, by the lines that they replace."""
WALKED = ("lists_of_parameters", "problem_file", "equations", "output_of_rhs", "derived_path", "particles")


@pytest.fixture
def package(tmp_path):
    """A copy of the package to which the parameter has been added."""
    for name in ("derive", "kernels", "annealvi"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in EDITS.items():
        path = tmp_path / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes.items():
            assert text.count(old) == 1, f"{name}: {old}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_new_parameter_passes_through_the_package(package):
    """Its equations, its output and its particles run in a process of their own, in plain Python."""
    environment = {
        **os.environ,
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONPATH": str(package),
        "ANNEALVI_CACHE_DIR": str(package / "cache"),
    }
    command = [sys.executable, str(ROOT / "tests" / "support" / "new_learned_parameter.py")]
    finished = subprocess.run(
        command, env=environment, cwd=package, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert [line.split()[1] for line in finished.stdout.splitlines() if line.startswith("walked ")] == [*WALKED]


def test_the_recipe_names_the_files_that_were_edited():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = text.split("### A learned parameter of the components\n")[1].split("\n### ")[0]
    assert set(EDITS) <= set(re.findall(r"`((?:derive|kernels|annealvi)/[a-z_/]+\.py)`", recipe))
