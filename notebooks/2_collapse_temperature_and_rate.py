# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Collapse, temperature and rate
#
# Install, in a clone of the repository: `python -m pip install . jupyter` (or, with uv, `uv run --with jupyter jupyter
# lab`).
#
# Annealing saves the modes of a target if it begins hot enough and is slow enough. How hot, how slow, and along which
# curve? Here the probability of mode collapse is a number that takes milliseconds to compute, so these questions have
# answers.
#
# The problem is that of Fogliani, Loureiro and Gabrié ([arXiv:2602.12923](https://arxiv.org/abs/2602.12923)): two
# components on a sphere under two opposite modes, $R = 3$, $w^\star = 0.8$, $d = 128$. The random start is the only
# chance in it: by the end of the schedule, either each component has found a mode of its own, or both sit at the same
# one.

# %%
from dataclasses import replace

import numpy as np
import xarray as xr
from scipy.optimize import minimize_scalar

import annealvi
from annealvi import (
    Accuracy,
    Family,
    bifurcation_figure,
    collapse_by_ensemble,
    collapse_by_particles,
    overlay_by_ode,
    phase_panel,
    settling_time,
    style,
)

problem = annealvi.load_problem("bimodal")


def with_schedule(kind, T0=300.0, t0=1000.0):
    return replace(problem, schedule=annealvi.ScheduleSpec(kind, T0, t0))


# %% [markdown]
# ## The phase diagram
#
# A schedule that is linear in $T$ has two numbers, the initial temperature $T_0$ and the time $t_0$ that it takes. For
# each pair the
# *separatrix formula* finds, by shooting with the derived ODE, the surface of initial overlaps between those that
# collapse and those that do not, and integrates their exact law over one side of it.
#
# Two other routes check it, and neither knows the formula. Thousands of trajectories of the ODE from random starts:
# each is followed until it is in a set of overlaps that, as is proven, the flow never leaves, so stopping there cannot
# bias the result. And particles: the stochastic gradient flow of all $2 \times 128$ coordinates, with 256 samples of
# each component at every step, which does not even know the ODE.

# %%
hot, slow = (
    annealvi.Axis("schedule.T0", 3, 30_000, 41, log=True),
    annealvi.Axis("schedule.t0", 30, 10_000, 31, log=True),
)
phase = annealvi.phase_map(with_schedule("linear"), hot, slow)
by_ode = overlay_by_ode(with_schedule("linear"), hot, slow, 13, n=2000)

linear = Family.of(with_schedule("linear"))
tried = [(T0, t0) for t0 in (100.0, 300.0, 1000.0) for T0 in (10.0, 100.0, 1000.0)]
checked = []
for n, (T0, t0) in enumerate(tried):  # with other starts each
    member = linear.at({"schedule.T0": T0, "schedule.t0": t0})
    ensemble = collapse_by_ensemble(member.session, n=10_000, kernel=member.kernel, seed=n)
    options = {"replicas": 64, "projected": True, "precision": "float32", "seed": n}
    runs = collapse_by_particles(member.session, t_end=1.2 * ensemble.t.max(), **options)
    checked.append((member.separatrix.corrected(Accuracy()).p, ensemble.outcomes, runs.outcomes))

# %%
p_particles = np.array([particles.p for _, _, particles in checked]).reshape(3, 3)
particles = xr.Dataset(
    {"p_particles": (("schedule.t0", "schedule.T0"), p_particles)},
    {"schedule.t0": [100.0, 300.0, 1000.0], "schedule.T0": [10.0, 100.0, 1000.0]},
)
with style.figure(5.2, 3.8) as (figure, panel):
    mesh = phase_panel(panel, phase, by_ode, particles)
    figure.colorbar(mesh, label=style.LABELS["p"])
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
figure

# %% [markdown]
# *The probability of collapse under linear cooling: colours and white contours by the formula, dashed contours by 2000
# ODE trajectories at each of 13 × 13 points, straight lines between them, discs by 64 particle runs each.*
#
# In numbers, with standard errors:

# %%
print("    T0    t0   formula   10 000 trajectories   64 particle runs")
for (T0, t0), (p, of_ode, of_particles) in zip(tried, checked, strict=True):
    print(
        f"{T0:6g} {t0:5g}   {p:7.4f}    {of_ode.p:.4f} ± {of_ode.stderr:.4f}       "
        f"{of_particles.p:.2f} ± {of_particles.stderr:.2f}"
    )
    assert abs(of_ode.p - p) < 4 * of_ode.stderr
    assert abs(of_particles.p - p) < 4 * of_particles.stderr

# %% [markdown]
# ## Why hot starts need slow cooling
#
# Cuts through the diagram. Left, at a fixed time scale; right, with heat and time raised together.


# %%
def p_along(starts, scales):
    """P(collapse) along a curve of T0 and t0; each point begins its shooting where the last one ended."""
    member, guess, found = linear.base, None, []
    for T0, t0 in np.broadcast(starts, scales):
        member = linear.at({"schedule.T0": T0, "schedule.t0": t0}, member)
        result = member.separatrix.corrected(Accuracy(), guess)
        guess = result.guess
        found.append(result.p)
    return np.array(found)


T0 = np.geomspace(3, 30_000, 36)
curves = {t0: p_along(T0, t0) for t0 in (100.0, 300.0, 1000.0, 3000.0)}
together = T0[T0 < 4000]
p_together = p_along(together, 3 * together)

with style.figure(style.TWO_COLUMNS, 2.8, columns=2, sharey=True, sharex=True) as (figure, (left, right)):
    for n, (t0, p) in enumerate(curves.items()):
        left.semilogx(T0, p, **style.line(n), label=f"$t_0 = {t0:g}$")
        left.plot(T0[p.argmin()], p.min(), "o", color=style.SERIES[n])
        right.semilogx(T0, p, color=style.FAINT, lw=0.8)
    right.semilogx(together, p_together, color=style.BLACK, lw=1.8)
    for at in (10, 100, 1000):
        place = (at, np.interp(np.log(at), np.log(together), p_together))
        right.plot(*place, "o", color=style.BLACK)
        plate = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        right.annotate(f"$t_0 = {3 * at:g}$", place, (7, 5), textcoords="offset points", fontsize=8, bbox=plate)
    left.legend(loc="lower left", title="dots: the best $T_0$", alignment="left")
    left.set(xlabel=style.LABELS["schedule.T0"], ylabel=style.LABELS["p"], ylim=(0, 0.72))
    right.set(xlabel=style.LABELS["schedule.T0"])
    left.set_title("$t_0$ fixed")
    right.set_title("$t_0 = 3\\,T_0$")
style.save(figure, "../paper/figures/trade-off.png")
figure

# %%
for p in curves.values():
    assert p[[0, -1]].min() > p.min() + 0.02
assert (np.diff(p_together) < 0).all()

# %% [markdown]
# Left, from cold to hot at a fixed time scale. *Too cold*, and the target pulls both components to its heavier mode
# before they have parted. *Too hot*, and the time is wasted: near $T = \infty$ the components do part, but in a random
# direction, and nothing turns that direction towards the modes until the schedule, now steep, rushes through the
# temperatures that matter. Each $t_0$ has its best $T_0$ (dots). Right, the way out: heat and time together. The grey
# curves are those of the left.
#
# %% [markdown]
# ## What is hot enough?
#
# At each temperature the flow has fixed points. Here are all of them, followed from $T = 1$ to $1000$, the stable ones
# in colour.

# %%
branches = annealvi.continue_branches(annealvi.open_session(problem), 1.0, 1000.0)
figure = bifurcation_figure(branches)
with style.applied():
    for axis, words in (
        (
            figure.axes[0],
            (
                ("one at each mode", 60, 0.9),
                ("both near the heavier", 1.05, 0.6),
                ("both near the lighter", 1.05, -0.62),
            ),
        ),
        (figure.axes[1], (("both near one mode", 4.2, 0.62), ("one at each mode", 1.05, -0.92))),
    ):
        for text, x, y in words:
            axis.text(x, y, f" {text}", fontsize=style.SMALL, va="center")
figure

# %%
for b in branches.bifurcations:
    print(f"T = {b.temperature:.2f}: {b.kind} at m_1 = m_2 = {b.state[0]:+.3f}")
assert {f"{b.temperature:.2f}" for b in branches.bifurcations} >= {"129.45", "62.28"}

# %% [markdown]
# The separated state (blue: $m_1 = 1, m_2 = -1$, or the other way round) attracts at every temperature. The two
# collapsed states attract only when it is cold: both components near the heavier mode below $T = 129.45$ (orange), both
# near the lighter one below $T = 62.28$ (green). Above, the repulsion of the components, which is the entropy, tears
# them apart again: *nothing can be lost for good above $T =
# 129.45$*. So an annealing that begins below loses runs at once, and what is undecided when it cools through these
# temperatures is decided there. But a run that has merely not been lost has not been saved either. It must still turn
# towards the modes, and that takes time.
#
# ## How slow is slow enough?
#
# A pair of components that is not lost waits between the modes, nearly opposite each other, and the difference $b = m_1
# - m_2$ of their overlaps grows at a rate $\lambda(T)$, the transverse rate of the flow at the waiting state. Until the
# pair is let go at $T = 129.45$ it has grown by $e^{A t_0}$, where $A$ is the integral of $\lambda$ over the schedule
# in units of $t_0$. It starts from a random $b(0) \sim \mathcal N(0, 2/d)$, and so a schedule that is to collapse with
# probability $P$ in $d$ dimensions has to have
#
# $$t_0 = \frac{1}{A} \left( \tfrac12 \log d - \log \frac{2\, \mathrm{erf}^{-1}(P)}{C} \right)$$
#
# with one constant $C$, which a single shooting determines. Dimension is cheap: a thousand times more of it costs as
# much as a thirtieth of the probability.

# %%
cooling = with_schedule("exponential", 1000.0)
law = annealvi.scaling_law(cooling)
family = Family.of(cooling)
dimensions = np.array([64, 512, 4096, 32_768, 262_144, 2_097_152])
with style.figure(style.TWO_COLUMNS, 2.6, columns=2) as (figure, (left, right)):
    for n, wanted in enumerate((0.1, 0.01, 0.001)):
        scales = law.time_scale(wanted, dimensions)
        members = [
            family.at({"space.dimension": float(d), "schedule.t0": t0})
            for d, t0 in zip(dimensions, scales, strict=True)
        ]
        sampled = [collapse_by_ensemble(m.session, n=20_000, kernel=m.kernel, seed=3).outcomes for m in members]
        left.semilogx(dimensions, scales, **style.line(n))
        left.semilogx(dimensions, scales, **style.points(n))
        left.annotate(
            f"$P = {wanted:g}$",
            (dimensions[-2], scales[-2]),
            (0, -13),
            textcoords="offset points",
            color=style.SERIES[n],
            fontsize=8,
        )
        right.errorbar(dimensions, [o.p for o in sampled], [2 * o.stderr for o in sampled], **style.points(n))
        right.axhline(wanted, color=style.SERIES[n], lw=1)
    left.set(xlabel=style.LABELS["space.dimension"], ylabel=style.LABELS["schedule.t0"], ylim=(0, None))
    right.set(xlabel=style.LABELS["space.dimension"], ylabel=style.LABELS["p"], xscale="log", yscale="log")
figure

# %% [markdown]
# *Left: the time scale that the law asks for. Right: what it gives, by 20 000 trajectories each, with two standard
# errors. The law is the leading order for slow schedules and many dimensions; at $P = 0.1$ and small $d$ its error
# shows.*

# %%
print(f"A = {law.rate:.6f}, C = {law.prefactor:.4f}, let go at T = {law.release:.2f}")

# %% [markdown]
# ## Which curve? Hold, then quench
#
# Let every kind of schedule have the same duration $D$ and its own best $T_0$. A duration counts until $T \leq 1.05$
# for good. That is hard on the exponential, which spends most of its time on a cold tail when all is long decided.

# %%
durations = np.geomspace(250, 4000, 9)


def best_of(family):
    """For each duration the smallest P over T0, to leading order in d, and that T0."""
    found = []
    for duration in durations:

        def p(x, duration=duration):
            start = np.exp(x)
            scales = settling_time(
                family.at({"schedule.T0": start, "schedule.t0": 1.0}, family.base).session.schedule, 0.05
            )
            member = family.at({"schedule.T0": start, "schedule.t0": duration / scales}, family.base)
            return member.separatrix.leading().p

        best = minimize_scalar(p, bounds=np.log([20, 20_000]), method="bounded", options={"xatol": 0.02})
        found.append((best.fun, np.exp(best.x)))
    return np.array(found).T


families = {
    "hold, then quench": Family.of(with_schedule("hold")),
    "exponential": Family.of(with_schedule("exponential")),
    "geometric": Family.of(with_schedule("geometric")),
    "linear": linear,
}
best = {name: best_of(family) for name, family in families.items()}

# %% [markdown]
# Is there anything better than holding? Minimise over *all* falling curves, with a temperature at each of nine knots
# and straight $\log T$ between them, all within $D = 2000$. And once more without the condition that $T$ falls.

# %%
D = 2000.0
falling = annealvi.optimal_schedule(problem, D)
free = annealvi.optimal_schedule(problem, D, start=np.array([30.0, 1000.0] + [400.0] * 7), monotone=False)
print(
    f"b_c: best hold {falling.hold_b_c:.4f} at T = {falling.hold_temperature:.0f}, best falling "
    f"{falling.b_c:.4f}, free {free.b_c:.4f}"
)


at = int(np.argmin(np.abs(durations - D)))
t = np.linspace(0, D, 400)
temperatures = {
    "exponential": lambda start: 1 + (start - 1) * (0.05 / (start - 1)) ** (t / D),
    "geometric": lambda start: start * 1.05 ** (t / D) * start ** (-t / D),
    "linear": lambda start: 1 + (start - 1) * (1 - t / D),
}
with style.figure(style.TWO_COLUMNS, 3.0, columns=2) as (figure, (left, right)):
    for n, (name, (p, starts)) in enumerate(best.items()):
        left.loglog(durations, p, **style.line(n), label=name)
        if name in temperatures:
            right.semilogy(t, temperatures[name](starts[at]), **style.line(n))
    left.plot(D, free.p, "*", color=style.BLACK, ms=8, label="free to rise and fall")
    left.set(xlabel=style.LABELS["duration"], ylabel=style.LABELS["p"])
    left.legend(loc="lower left")
    left.set_yticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
    left.set_xticks([250, 500, 1000, 2000, 4000], ["250", "500", "1000", "2000", "4000"])
    left.minorticks_off()
    for curve, look in ((falling, {**style.line(0), "lw": 2}), (free, {"color": style.BLACK})):
        right.semilogy([*curve.t, D, D * 1.12], [*curve.T, 1, 1], **look)
    right.set(xlabel=style.LABELS["t"], ylabel=style.LABELS["T"])
figure

# %%
hold_p = best["hold, then quench"][0]
assert all((hold_p <= p).all() for p, _ in best.values())
assert abs(falling.b_c / falling.hold_b_c - 1) < 0.03
assert free.b_c < falling.b_c

# %% [markdown]
# *Left: the best of each kind, at each duration. Right: the temperatures of those that last $D = 2000$, the best hold
# as it was found among all falling curves.*
#
# Holding one temperature and then quenching to $T = 1$ at once wins at every duration. The best of all falling curves
# *is* hold-and-quench to within the descent's tolerance: the blue line on the right is not drawn flat, it was found
# flat. A curve that may rise (black, a star on the left) begins cold, then is hotter than 1000 for a while, and is
# better still. Descents from elsewhere end at other curves of that form, with $b_c$ from 0.0057 to 0.0060 where the
# hold has 0.0088.
#
# ### Why
#
# At high temperature the components are soon opposite each other, $s = -1$, on a line across the modes: $m_1 + m_2$ and
# $m_1 - m_2$ are small. Call them $a$ and $b$. With $F$ the target's pull and $G$ the repulsion,
#
# $$a' = \beta F(0) + \kappa a, \qquad \kappa = \tfrac12 \beta F'(0) - G(-1), \qquad b' = \tfrac12 \beta F'(0)\, b.$$
#
# $b$ is what must grow: the pair turning towards the modes. $a$ is what must not: the pair being dragged to the heavier
# one. After the quench the pair separates if $b > \psi(a)$, with an increasing $\psi$. Now measure time by $\tau =
# \int_0^t \beta$. Then $b$ has grown by $e^{F'(0) \tau / 2}$, however $\tau$ was spent, but
#
# $$a(D) = F(0) \int_0^{\tau_D} e^{\frac12 F'(0)(\tau_D - \tau)}\; e^{-G(-1)\,(D - t(\tau))}\, d\tau$$
#
# is the smaller the *earlier* each $\tau$ is spent: the drag decays at the rate $G(-1)$ while one waits, and what has
# been gained in $b$ does not. So β is worth more early than late. In the language of control, the derivative of $\log
# b_c$ with respect to $\beta(t)$ is
#
# $$S(t) = \frac{\psi'}{\psi} \left( F(0) + \tfrac12 F'(0)\, a(t) \right) e^{\int_t^D \kappa} - \tfrac12 F'(0),$$
#
# and its slope has the sign of $F(0)\, G(-1) > 0$ for *every* $\beta(t)$, not the best one only.
#
# That explains both results. If β may do as it likes, it should be large at first and small later: begin cold, then
# wait in the heat. If β may only grow, $\tau(t)$ is convex and lies below its chord; the earliest that it can be is the
# chord itself, a constant β. What is left is a jump to $\beta = 1$ at the end: hold, then quench. (The pair's first
# moments, when $s$ has not yet reached $-1$, are outside this argument. The numbers above include them.)
#
# At which temperature should one hold? A long hold waits, like the slow schedule above, and the best temperature is the
# one at which $\lambda$ is largest, 499 here. A shorter hold does better a little colder, by an amount that goes like
# $1/D$. The dimension hardly matters.

# %%
ultimate = annealvi.ultimate_hold(problem)
print("best T of a hold of duration D, and P(collapse)")
for d in (16, 128, 16_384):
    holds = [
        annealvi.best_hold(replace(problem, space=annealvi.Space(d)), duration)
        for duration in (500, 1000, 2000, 4000, 8000)
    ]
    cells = ", ".join(
        f"{duration}: {h.temperature:.0f} ({h.p:.2g})"
        for duration, h in zip((500, 1000, 2000, 4000, 8000), holds, strict=True)
    )
    print(f"d = {d:6d}  {cells}")
print(f"D -> infinity: {ultimate.temperature:.0f}; there -log P grows by {ultimate.rate:.2e} per unit of time")

# %% [markdown]
# The free curve may look like a trick, so here it is put to the test, with the hold, by trajectories that know nothing
# of a formula:

# %%
for name, curve in (("hold, then quench", falling), ("free", free)):
    points = [
        *zip(curve.t.tolist(), curve.T.tolist(), strict=True),
        (D + 25, 1.0),
    ]  # a quench that takes 25 units of time
    table = annealvi.ScheduleSpec("table", points=tuple(points))
    session = annealvi.open_session(replace(problem, schedule=table))
    outcomes = collapse_by_ensemble(session, n=4000, seed=2).outcomes
    print(f"{name}: P = {curve.p:.4f} to leading order, {outcomes.p:.4f} ± {outcomes.stderr:.4f} by trajectories")

# %% [markdown]
# ## In practice
#
# `annealvi.recommend(problem, p_max)`, or `annealvi recommend --p-max 0.05`, searches seven kinds of schedule for the
# shortest with P(collapse) ≤ p_max, and checks the winner with an ensemble. Here are two of them:

# %%
advice = annealvi.recommend(problem, 0.05, kinds=("hold", "linear"), n=4000)
for c in advice.compared:
    print(
        f"{c.kind}: T0 = {c.T0:.0f}, t0 = {c.t0:.0f}, duration {c.duration:.0f}; P = "
        f"{c.equal:.3f} in {advice.duration:.0f}"
    )
print(f"checked: {advice.p_ode:.4f} ± {advice.stderr:.4f}")
assert 1.2 < advice.compared[1].duration / advice.compared[0].duration < 1.3

# %% [markdown]
# Where the separation of the modes is known only roughly, give a range, `R=(2.0, 3.5)`: the answer is then the cheapest
# schedule for the worst of them. If in doubt, err on the hot side: the dots of the first figure lie in wide valleys,
# and the cold side is where runs are lost for good. And keep in mind what the theory is about: a gradient flow in
# continuous time. An optimiser with a finite learning rate may not survive a quench from $T = 340$ to $1$. The best
# linear schedule asks for about a quarter more time, and is gentle.
#
# Next: [3_your_own_mixture](3_your_own_mixture.ipynb), for a target that no formula covers, and
# [4_choosing_a_schedule_for_your_flow](4_choosing_a_schedule_for_your_flow.ipynb), for normalizing flows, where the
# quench does harm.
