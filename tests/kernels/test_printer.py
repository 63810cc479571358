"""The printer for all targets: on each target, each expression of the coverage list agrees with 30 digits."""

import json
import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import sympy as sp
from coverage_expressions import EXPRESSIONS, POINTS, SYMBOLS, exact, x, y
from cuda_without_gpu import needs_compiler
from hopper_kernels import CudaKernel, ptx_of
from places import PYTHONPATH

from kernels.generate.printer import ScalarPrinter
from kernels.lower.lowering import lower
from kernels.machine.module_cache import load_module

HEADERS = {
    "python": "",
    "cpu": "from numba import njit\n\n\n@njit(error_model='numpy')",
    "cuda": "from numba import cuda\n\n\n@cuda.jit",
}


def coverage_module(target, precision="float64", without=()):
    """A module with one function, evaluate(points (n, 2), out (expressions, n)), for the coverage list.

    The list lacks the expressions with the names `without`.
    """
    printer = ScalarPrinter(precision)
    lines = [
        "def evaluate(points, out):",
        "    for n in range(points.shape[0]):",
        "        x, y = points[n, 0], points[n, 1]",
    ]
    lines += [
        f"        out[{i}, n] = {printer.text(lower(e))}"
        for i, (name, e) in enumerate(EXPRESSIONS.items())
        if name not in without
    ]
    source = "\n".join(
        ["import math", "from math import exp, log, tanh", "from numba import float32", HEADERS[target], *lines, ""]
    )
    return load_module(source, f"coverage_{target}_{precision}")


def evaluated(target, precision="float64"):
    points, out = np.array(POINTS, precision), np.empty((len(EXPRESSIONS), len(POINTS)), precision)
    function = coverage_module(target, precision).evaluate
    if target == "cuda":
        function[1, 1](points, out)
    else:
        function(points, out)
    return out


def assert_right(values, relative, points=POINTS, smallest=0.0):
    """The values are right to relative rounding, and those of softplus, log(1 + small), to absolute rounding.

    points: the arguments as the target received them.
    """
    for row, (name, expression) in zip(values, EXPRESSIONS.items(), strict=True):
        for value, point in zip(row, points, strict=True):
            expected = float(exact(expression, point))
            absolute = relative if name == "softplus" else smallest
            assert value == pytest.approx(expected, rel=relative, abs=absolute), f"{name} at {point}"


@pytest.mark.parametrize("target", ["python", "cpu"])
def test_every_expression_on_the_cpu(target):
    assert_right(evaluated(target), 2e-14)


def test_every_expression_in_the_cuda_simulator():
    program = "import json, test_printer as t; print(json.dumps(t.evaluated('cuda').tolist()))"
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": PYTHONPATH}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert_right(json.loads(finished.stdout), 2e-14)


def test_single_precision_promotes_nothing():
    rounded = [tuple(float(np.float32(v)) for v in point) for point in POINTS]
    assert_right(evaluated("cpu", "float32").astype(float), 3e-5, rounded, float(np.finfo(np.float32).tiny))
    (text,) = coverage_module("cpu", "float32").evaluate.inspect_llvm().values()
    body = text.split("define ")[1]
    assert "float" in body
    assert " double " not in body


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_expression_compiles_for_hopper(precision):
    assert ".f64" in ptx_of_all(precision)


@needs_compiler
def test_single_precision_on_cuda_promotes_nothing():
    """The trigonometric functions are the exception: their library code reduces large arguments in double precision."""
    assert ".f64" not in ptx_of_all("float32", without=("sin", "cos", "tan"))


def ptx_of_all(precision, without=()):
    real = numba.from_dtype(np.dtype(precision))
    function = coverage_module("cuda", precision, without).evaluate.py_func
    return ptx_of(CudaKernel("every expression", function, (real[:, ::1], real[:, ::1]), 64))


@pytest.mark.quick
@pytest.mark.parametrize(
    "node",
    [
        sp.I * x,
        sp.oo,
        sp.nan,
        sp.gamma(x),
        sp.floor(x),
        sp.Function("f")(x, y),
        sp.Derivative(sp.Function("f")(x), x),
        sp.atan2(x, y),
    ],
    ids=str,
)
def test_what_has_no_kernel_form_is_named(node):
    with pytest.raises(TypeError, match="no kernel form for") as refusal:
        ScalarPrinter().text(1 + node)
    assert any(type(part).__name__ in str(refusal.value) for part in sp.preorder_traversal(node))


def test_a_piecewise_that_may_have_no_value_is_refused():
    with pytest.raises(TypeError, match="last branch"):
        ScalarPrinter().text(sp.Piecewise((x, x < 0)))


@pytest.mark.quick
def test_literals_keep_every_bit():
    third = ScalarPrinter().text(sp.Rational(1, 3) + 0 * x)
    assert float(third) == 1 / 3
    assert ScalarPrinter().text(sp.pi) == repr(math.pi)
    assert ScalarPrinter("float32").text(sp.Rational(1, 10)) == "float32(0.1)"


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="float64"):
        ScalarPrinter("float16")


def test_coverage_list_reaches_every_printing_rule():
    """Each function name that the printer knows occurs in the lowered coverage list."""
    printed = " ".join(ScalarPrinter().text(lower(e)) for e in EXPRESSIONS.values())
    from kernels.generate import printer

    missing = [python for python in printer._FUNCTIONS.values() if f"{python}(" not in printed]
    assert missing == []
    assert len(SYMBOLS) == 2
