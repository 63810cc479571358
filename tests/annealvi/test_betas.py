"""β(step) for the training loops of other libraries.

The tests compare β with retyped formulas of the schedule kinds, use it through optax's protocol, and give wrong input.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import annealvi
from annealvi import components
from annealvi.realnvp.tempering import next_beta
from derive.problem.specification import BadInput, ScheduleSpec

T0, t0 = 30.0, 40.0
STEPS = np.arange(0, 120)
TEMPERATURES = {
    "constant": T0 + 0 * STEPS,
    "exponential": 1 + (T0 - 1) * np.exp(-STEPS / t0),
    "geometric": np.maximum(1, T0 ** (1 - STEPS / t0)),
    "linear": np.maximum(1, 1 + (T0 - 1) * (1 - STEPS / t0)),
    "beta-exponential": 1 / (1 - (1 - 1 / T0) * np.exp(-STEPS / t0)),
    "beta-linear": 1 / np.minimum(1, 1 / T0 + (1 - 1 / T0) * STEPS / t0),
    "cosine": 1 + (T0 - 1) * (1 + np.cos(np.pi * np.minimum(1, STEPS / t0))) / 2,
    "hold": np.where(t0 > STEPS, T0, 1),
}
EXTRA = {
    "table": ScheduleSpec("table", points=((0.0, 20.0), (10.0, 5.0), (30.0, 1.0))),
    "expression": ScheduleSpec("expression", 4.0, t0, expression="1 + (T0 - 1)*exp(-t/t0)*cos(t/9)**2"),
}


@pytest.mark.quick
@pytest.mark.parametrize("kind", TEMPERATURES)
def test_beta_is_the_kinds_formula_at_each_step(kind):
    schedule = annealvi.BetaSchedule(ScheduleSpec(kind, T0, t0))
    np.testing.assert_allclose(schedule.values(len(STEPS)), 1 / TEMPERATURES[kind], rtol=1e-12)
    assert isinstance(schedule(3), float)


@pytest.mark.parametrize(
    "spec", [*(ScheduleSpec(kind, T0, t0) for kind in TEMPERATURES), *EXTRA.values()], ids=lambda spec: spec.kind
)
def test_the_traced_schedule_is_the_plain_one(spec):
    schedule = annealvi.BetaSchedule(spec, time_per_step=0.5)
    traced = schedule.optax()
    np.testing.assert_allclose(jax.jit(jax.vmap(traced))(jnp.arange(120)), schedule.values(120), rtol=2e-6)
    assert jax.jit(traced)(jnp.array(3)).shape == ()
    assert float(traced(3)) == pytest.approx(schedule(3), rel=2e-6)


def test_optax_takes_it_for_a_hyperparameter():
    schedule = annealvi.beta_schedule("linear", 20.0, 50).optax()
    optimiser = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    state = optimiser.init(jnp.zeros(2))
    for count in range(4):
        updates, state = optimiser.update(jnp.ones(2), state)
        np.testing.assert_allclose(updates, -float(schedule(count)), rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in TEMPERATURES if kind != "constant"])
@pytest.mark.parametrize("hot", [2.0, 300.0])
def test_the_annealing_takes_the_steps_asked_for(kind, hot):
    schedule = annealvi.beta_schedule(kind, hot, 700)
    assert schedule.steps == pytest.approx(700, abs=1)
    assert schedule(0) == pytest.approx(1 / hot)
    assert 1 / schedule(701) <= 1.05 * (1 + 1e-9)
    assert 1 / schedule(690) > 1.05


def test_a_recommendation_fits():
    spec = ScheduleSpec("hold", 300.0, 1500.0)
    schedule = annealvi.BetaSchedule(spec, time_per_step=0.5)
    assert schedule.steps == 3000
    assert [schedule(0), schedule(2999), schedule(3000)] == [pytest.approx(1 / 300), pytest.approx(1 / 300), 1.0]


def test_wrong_input_is_refused_with_a_remedy(monkeypatch):
    with pytest.raises(BadInput, match="no function of the step"):
        annealvi.BetaSchedule(ScheduleSpec("adaann", 30.0, 10.0))
    with pytest.raises(BadInput, match="positive"):
        annealvi.BetaSchedule(ScheduleSpec("hold", 30.0, 10.0), time_per_step=math.nan)
    with pytest.raises(BadInput, match="begin above"):
        annealvi.beta_schedule("exponential", 1.0, 100)
    with pytest.raises(BadInput, match="kind"):
        annealvi.beta_schedule("logarithmic", 10.0, 100)
    monkeypatch.setattr(components, "find_spec", lambda name: None)
    with pytest.raises(components.MissingComponent, match="needs jax"):
        annealvi.beta_schedule("hold", 10.0, 100).optax()


@pytest.mark.parametrize("library", [list, np.float32, jnp.array])
def test_adaptive_rules_on_two_samples_are_solved_by_hand(library):
    """For two samples the rules have closed forms.

    For log p* = a and a − Δ the standard deviation is Δ/√2. With u = exp(−δΔ) the relative effective sample size is
    (1 + u)²/(2 + 2u²), which equals the level.
    """
    gap, tau, level = 4.0, 0.5, 0.9
    log_p = library([-700.0, -700.0 - gap])
    rule = annealvi.AdaAnn(tau, T0=10.0)
    assert rule.beta == 0.1
    assert rule.update(log_p) == pytest.approx(0.1 + tau * math.sqrt(2) / gap, rel=1e-12)
    u = (1 - math.sqrt(1 - (2 * level - 1) ** 2)) / (2 * level - 1)
    even = annealvi.EffectiveSampleSize(level, T0=10.0)
    assert even.update(log_p) == even.beta == pytest.approx(0.1 - math.log(u) / gap, rel=1e-10)
    assert isinstance(even.update(log_p), float)


@pytest.mark.parametrize(
    ("rule", "kind", "strength"), [(annealvi.AdaAnn, "adaann", 0.3), (annealvi.EffectiveSampleSize, "ess", 0.8)]
)
def test_adaptive_rules_are_those_of_the_trained_flows(rule, kind, strength):
    """The rules agree with those of the trained flows, up to the flows' single precision.

    The flows use the standard deviation of the samples, whereas `AdaAnn` estimates that of q: a factor of √(n/(n − 1)).
    """
    log_p, mine = np.random.default_rng(0).normal(size=400) * 7 - 40, rule(strength, T0=20.0)
    theirs = float(next_beta(kind, strength, jnp.float32(0.05), jnp.array(log_p)))
    factor = math.sqrt(400 / 399) if kind == "adaann" else 1.0
    assert factor * (mine.update(log_p) - 0.05) == pytest.approx(theirs - 0.05, rel=1e-4)
    assert repr(mine).startswith(f"{rule.__name__}({'tau' if kind == 'adaann' else 'level'}={strength}, beta=0.")
    path = [mine.update(log_p.reshape(20, 20)) for _ in range(200)]
    assert path == sorted(path)
    assert path[-1] == 1.0


@pytest.mark.parametrize("rule", [annealvi.AdaAnn(0.3), annealvi.EffectiveSampleSize(0.8)])
@pytest.mark.parametrize(
    ("log_p", "named"),
    [
        ([1.0], "two samples"),
        ([1.0, math.nan], "1 of 2 values"),
        ([-math.inf, 0.0, 1.0], "not finite"),
        ("x", "a str"),
        (None, "a NoneType"),
        (np.array([1j, 2.0]), "complex"),
        (np.array([True, False]), "bool"),
        ([[1.0, 2.0], [3.0]], "a list"),
    ],
)
def test_values_that_say_nothing_leave_beta_where_it_was(rule, log_p, named):
    with pytest.raises(BadInput, match=named) as caught:
        rule.update(log_p)
    assert "\n" not in str(caught.value)
    assert rule.beta == 0.1


def test_an_adaptive_rule_inside_jit_is_refused_in_one_line():
    with pytest.raises(BadInput, match="outside jit"):
        jax.jit(annealvi.AdaAnn(0.3).update)(jnp.arange(3.0))
