"""The bimodal system and an annealing schedule, typed by hand in the form of the derivation's results.

With them the tests of the kernels do not need the derivation. The states m_1, m_2, s are overlaps of unit vectors; the
parameters are R, w_star, w_1. The module also has a system that is wrong on purpose, for the tests of errors.
"""

import numpy as np
import sympy as sp

from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import BETA, TIME, OdeSystem

m_1, m_2, s = STATES = sp.symbols("m_1 m_2 s", real=True)
R, w_star, w_1 = PARAMETERS = sp.symbols("R w_star w_1", positive=True)
UNIT = (sp.Integer(-1), sp.Integer(1))
COSINES = (
    StateVariable(m_1, StateKind.MODE_OVERLAP, (0,), UNIT),
    StateVariable(m_2, StateKind.MODE_OVERLAP, (1,), UNIT),
    StateVariable(s, StateKind.MEAN_OVERLAP, (0, 1), UNIT),
)
GRAM = sp.ImmutableMatrix([[1, m_1, m_2], [m_1, 1, s], [m_2, s, 1]])
T0, t0 = sp.symbols("T0 t0", positive=True)
z = StandardNormal("z")
VALUES = {R: 3.0, w_star: 0.8, w_1: 0.5}


def _pull(m):
    return Expectation(sp.tanh(R**2 * m + sp.log(w_star / (1 - w_star)) / 2 + R * z), z)


def bimodal_system():
    w_2 = 1 - w_1
    delta = R**2 * (1 - s)
    F_1, F_2, g = sp.symbols("F_1 F_2 g", real=True)
    repulsion = Expectation(sp.sech((sp.log(w_1 / w_2) + sp.sqrt(2 * delta) * z) / 2), z)
    subexpressions = (
        (F_1, _pull(m_1)),
        (F_2, _pull(m_2)),
        (g, sp.sqrt(w_1 * w_2) / 2 * sp.exp(-delta / 4) * repulsion),
    )
    rates = (
        w_1 * BETA * F_1 * (1 - m_1**2) - g * (m_2 - s * m_1),
        w_2 * BETA * F_2 * (1 - m_2**2) - g * (m_1 - s * m_2),
        w_1 * BETA * F_1 * (m_2 - s * m_1) + w_2 * BETA * F_2 * (m_1 - s * m_2) - 2 * g * (1 - s**2),
    )
    return OdeSystem("hand-typed bimodal", COSINES, PARAMETERS, subexpressions, rates, GRAM)


def escaping_system():
    """A system of constant rates, which no vectors follow for long.

    One of the rates is undefined where the parameter `c` is negative.
    """
    a, b, c = sp.symbols("a b c", real=True)
    return OdeSystem("escaping", COSINES, (a, b, c), (), (a, b, BETA * sp.log(c)), GRAM)


def exponential_beta():
    return 1 / (1 + (T0 - 1) * sp.exp(-TIME / t0))


def hold_beta():
    return sp.Piecewise((1 / T0, TIME < t0), (sp.Integer(1), True))  # noqa: SIM300


def states_of_unit_vectors(n, dimension, seed):
    """Overlaps, (n, 3), of independent unit vectors that are drawn in R^dimension."""
    x = np.random.default_rng(seed).normal(size=(n, 3, dimension))
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    return np.stack([(x[:, 0] * x[:, 1]).sum(1), (x[:, 0] * x[:, 2]).sum(1), (x[:, 1] * x[:, 2]).sum(1)], axis=1)
