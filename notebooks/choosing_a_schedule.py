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
# # How to choose a schedule that does not collapse
#
# Annealing saves the modes of a target if it begins hot enough and is slow enough. How hot, how slow, and along which curve? Here the
# probability of mode collapse is a number that takes milliseconds to compute, so these questions have answers.
#
# The problem is the study's own: two components on a sphere under two opposite modes, $R = 3$, $w^\star = 0.8$, $d = 128$. The random
# start is the only chance in it: by the end of the schedule, either each component has found a mode of its own, or both sit at the same
# one.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from scipy.optimize import minimize_scalar

import annealvi
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family
from annealvi.collapse.separatrix import Accuracy
from annealvi.fixed_points.figure import bifurcation_figure
from annealvi.style import SERIES as COLOURS
from annealvi.style import SETTINGS as STYLE
from derive.problem import ScheduleSpec
from derive.schedules import settling_time

plt.rcParams.update(STYLE)
problem = annealvi.load_problem("bimodal")


def family_of(kind):
    """All schedules of one kind, derived and compiled once."""
    return Family.of(replace(problem, schedule=ScheduleSpec(kind, 300.0, 1000.0)))


# %% [markdown]
# ## Hotter is not safer
#
# A schedule that is linear in $T$ has two numbers, the initial temperature $T_0$ and the time $t_0$ that it takes. For each pair the
# *separatrix formula* finds, by shooting with the derived ODE, the surface of initial overlaps between those that collapse and those that
# do not, and integrates their exact law over one side of it.

# %%
linear = family_of("linear")


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

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.5), sharey=True, sharex=True, layout="constrained")
for (t0, p), colour in zip(curves.items(), COLOURS, strict=False):
    left.semilogx(T0, p, color=colour, lw=1.8)
    left.plot(T0[p.argmin()], p.min(), "o", color=colour, ms=6)
    away = (0, -15 if p.min() > 0.1 else 9)
    left.annotate(f"$t_0 = {t0:g}$", (T0[p.argmin()], p.min()), away, textcoords="offset points", color=colour, ha="center")
    right.semilogx(T0, p, color="0.82", lw=1.2)
right.semilogx(together, p_together, color="black", lw=2.2)
for at in (10, 100, 1000):
    place = (at, np.interp(np.log(at), np.log(together), p_together))
    right.plot(*place, "o", color="black", ms=5)
    right.annotate(f"$t_0 = {3 * at:g}$", place, (8, 4), textcoords="offset points")
left.set(title="$t_0$ fixed: $P$ falls, then rises again", xlabel="initial temperature $T_0$", ylabel="P(collapse)", ylim=(0, 0.72))
right.set(title="$T_0$ and $t_0 = 3\\,T_0$ raised together: $P$ only falls", xlabel="initial temperature $T_0$")
figure.savefig("../paper/figures/trade-off.png", dpi=150)
plt.show()

# %% [markdown]
# Left, from cold to hot at a fixed time scale. *Too cold*, and the target pulls both components to its heavier mode before they have
# parted. *Too hot*, and the time is wasted: near $T = \infty$ the components do part, but in a random direction, and nothing turns that
# direction towards the modes until the schedule, now steep, rushes through the temperatures that matter. Each $t_0$ has its best $T_0$
# (dots). Right, the way out: heat and time together. The grey curves are those of the left.
#
# ## The formula is right
#
# The same probabilities by brute force: thousands of ODE trajectories from random starts. Each is followed until it is in a set of
# overlaps that, as is proven, the flow never leaves, so stopping there cannot bias the result.

# %%
checked = [(t0, float(start)) for t0 in (300.0, 1000.0, 3000.0) for start in T0[[6, 14, 18, 22, 29]]]
sampled = []
for t0, start in checked:
    member = linear.at({"schedule.T0": start, "schedule.t0": t0})
    sampled.append(collapse_by_ensemble(member.session, n=4000, kernel=member.kernel, seed=1).outcomes)
difference = [(s.p - np.interp(np.log(start), np.log(T0), curves[t0])) / s.stderr for s, (t0, start) in zip(sampled, checked, strict=True)]

figure, (above, below) = plt.subplots(2, 1, figsize=(5.8, 4.4), sharex=True, height_ratios=(3, 1), layout="constrained")
for t0, colour in zip((300.0, 1000.0, 3000.0), COLOURS[1:], strict=False):
    here = [n for n, (scale, _) in enumerate(checked) if scale == t0]
    x = [checked[n][1] for n in here]
    above.semilogx(T0, curves[t0], color=colour, lw=1.4, label=f"$t_0 = {t0:g}$")
    errors = [2 * sampled[n].stderr for n in here]
    above.errorbar(x, [sampled[n].p for n in here], errors, fmt="o", color=colour, mfc="white", ms=4.5, capsize=2.5)
    below.semilogx(x, [difference[n] for n in here], "o", color=colour, ms=4)
above.set(title="lines: formula; points: 4000 ODE trajectories, ± 2 s.e.", ylabel="P(collapse)", ylim=(0, 0.72))
above.legend(loc="lower left")
below.axhspan(-2, 2, color="0.92", zorder=0)
below.set(xlabel="initial temperature $T_0$", ylabel="difference / s.e.", ylim=(-4, 4))
plt.show()

# %%
assert np.abs(difference).max() < 4, difference

# %% [markdown]
# ## What is hot enough?
#
# At each temperature the flow has fixed points. Here are all of them, followed from $T = 1$ to $1000$, the stable ones in colour.

# %%
branches = annealvi.continue_branches(annealvi.open_session(problem), 1.0, 1000.0)
figure = bifurcation_figure(branches)
for axis, words in (
    (figure.axes[0], (("one at each mode", 60, 0.9), ("both near the heavier", 1.05, 0.6), ("both near the lighter", 1.05, -0.62))),
    (figure.axes[1], (("both near one mode", 4.2, 0.62), ("one at each mode", 1.05, -0.92))),
):
    for text, x, y in words:
        axis.text(x, y, f" {text}", fontsize=8, va="center")
display(figure)
for b in branches.bifurcations:
    print(f"T = {b.temperature:.2f}: {b.kind} at m_1 = m_2 = {b.state[0]:+.3f}")

# %% [markdown]
# The separated state (blue: $m_1 = 1, m_2 = -1$, or the other way round) attracts at every temperature. The two collapsed states attract
# only when it is cold: both components near the heavier mode below $T = 129.45$ (orange), both near the lighter one below $T = 62.28$
# (green). Above, the repulsion of the components, which is the entropy, tears them apart again: *nothing can be lost for good above $T =
# 129.45$*. So an annealing that begins below loses runs at once, and what is undecided when it cools through these temperatures is decided
# there. But a run that has merely not been lost has not been saved either. It must still turn towards the modes, and that takes time.
#
# ## How slow is slow enough?
#
# A pair of components that is not lost waits between the modes, nearly opposite each other, and the difference $b = m_1 - m_2$ of their
# overlaps grows at a rate $\lambda(T)$, the transverse rate of the flow at the waiting state. Until the pair is let go at $T = 129.45$
# it has grown by $e^{A t_0}$, where $A$ is the integral of $\lambda$ over the schedule in units of $t_0$. It starts from a random
# $b(0) \sim \mathcal N(0, 2/d)$, and so a schedule that is to collapse with probability $P$ in $d$ dimensions has to have
#
# $$t_0 = \frac{1}{A} \left( \tfrac12 \log d - \log \frac{2\, \mathrm{erf}^{-1}(P)}{C} \right)$$
#
# with one constant $C$, which a single shooting determines. Dimension is cheap: a thousand times more of it costs as much as a thirtieth
# of the probability.

# %%
cooling = replace(problem, schedule=ScheduleSpec("exponential", 1000.0, 1000.0))
law = annealvi.scaling_law(cooling)
family = Family.of(cooling)
dimensions = np.array([64, 512, 4096, 32_768, 262_144, 2_097_152])
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.3), layout="constrained")
for wanted, colour in zip((0.1, 0.01, 0.001), COLOURS, strict=False):
    scales = law.time_scale(wanted, dimensions)
    members = [family.at({"space.dimension": float(d), "schedule.t0": t0}) for d, t0 in zip(dimensions, scales, strict=True)]
    sampled = [collapse_by_ensemble(m.session, n=20_000, kernel=m.kernel, seed=3).outcomes for m in members]
    left.semilogx(dimensions, scales, "o-", color=colour, ms=4, label=f"P = {wanted:g}")
    right.errorbar(dimensions, [o.p for o in sampled], [2 * o.stderr for o in sampled], fmt="o", color=colour, ms=4, capsize=2.5)
    right.axhline(wanted, color=colour, lw=1)
left.set(title="the time scale that the law asks for", xlabel="dimension $d$", ylabel="$t_0$", ylim=(0, None))
left.legend(loc="lower right")
right.set(title="what it gives: 20 000 trajectories, ± 2 s.e.", xlabel="dimension $d$", ylabel="P(collapse)", xscale="log", yscale="log")
plt.show()
print(f"A = {law.rate:.6f}, C = {law.prefactor:.4f}, let go at T = {law.release:.2f}")

# %% [markdown]
# ## Which curve? Hold, then quench
#
# Let every kind of schedule have the same duration $D$ and its own best $T_0$. A duration counts until $T \leq 1.05$ for good. That is
# hard on the exponential, which spends most of its time on a cold tail when all is long decided.

# %%
durations = np.geomspace(250, 4000, 9)


def best_of(family):
    """For each duration the smallest P over T0, to leading order in d, and that T0."""
    found = []
    for duration in durations:

        def p(x, duration=duration):
            start = np.exp(x)
            scales = settling_time(family.at({"schedule.T0": start, "schedule.t0": 1.0}, family.base).session.schedule, 0.05)
            member = family.at({"schedule.T0": start, "schedule.t0": duration / scales}, family.base)
            return member.separatrix.leading().p

        best = minimize_scalar(p, bounds=np.log([20, 20_000]), method="bounded", options={"xatol": 0.02})
        found.append((best.fun, np.exp(best.x)))
    return np.array(found).T


families = {
    "exponential": family_of("exponential"),
    "geometric": family_of("geometric"),
    "linear": linear,
    "hold, then quench": family_of("hold"),
}
lines = {name: (best_of(family), colour) for (name, family), colour in zip(families.items(), COLOURS[1:4] + COLOURS[:1], strict=True)}

# %% [markdown]
# Is there anything better than holding? Minimise over *all* falling curves, with a temperature at each of nine knots and straight $\log T$
# between them, all within $D = 2000$. And once more without the condition that $T$ falls.

# %%
D = 2000.0
falling = annealvi.optimal_schedule(problem, D)
free = annealvi.optimal_schedule(problem, D, start=np.array([30.0, 1000.0] + [400.0] * 7), monotone=False)
print(f"b_c: best hold {falling.hold_b_c:.4f} at T = {falling.hold_temperature:.0f}, best falling {falling.b_c:.4f}, free {free.b_c:.4f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.7), layout="constrained")
for name, ((p, _), colour) in lines.items():
    left.loglog(durations, p, color=colour, label=name, lw=1.8)
left.plot(D, free.p, "*", color="black", ms=10, label="free to rise and fall")
left.set(title="the best of each kind", xlabel="duration $D$", ylabel="P(collapse)")
left.legend(loc="lower left", handlelength=1.8)
left.set_yticks([0.01, 0.03, 0.1, 0.3], ["0.01", "0.03", "0.1", "0.3"])
left.set_xticks([250, 500, 1000, 2000, 4000], ["250", "500", "1000", "2000", "4000"])
left.minorticks_off()

at = int(np.argmin(np.abs(durations - D)))
t = np.linspace(0, D, 400)
temperatures = {
    "exponential": lambda start: 1 + (start - 1) * (0.05 / (start - 1)) ** (t / D),
    "geometric": lambda start: start * 1.05 ** (t / D) * start ** (-t / D),
    "linear": lambda start: 1 + (start - 1) * (1 - t / D),
}
for name, temperature in temperatures.items():
    (_, starts), colour = lines[name]
    right.semilogy(t, temperature(starts[at]), color=colour, lw=1.3)
for curve, colour, width in ((falling, COLOURS[0], 2.2), (free, "black", 1.6)):
    right.semilogy([*curve.t, D, D * 1.12], [*curve.T, 1, 1], color=colour, lw=width)
right.set(title="their temperatures for $D = 2000$", xlabel="time $t$", ylabel="temperature $T$")
plt.show()

# %% [markdown]
# Holding one temperature and then quenching to $T = 1$ at once wins at every duration. The best of all falling curves *is* hold-and-quench
# to within the descent's tolerance: the blue line on the right is not drawn flat, it was found flat. A curve that may rise (black, a star
# on the left) begins cold, then is hotter than 1000 for a while, and is better still. Descents from elsewhere end at other curves of that
# form, with $b_c$ from 0.0057 to 0.0060 where the hold has 0.0088.
#
# ### Why
#
# At high temperature the components are soon opposite each other, $s = -1$, on a line across the modes: $m_1 + m_2$ and $m_1 - m_2$ are
# small. Call them $a$ and $b$. With $F$ the target's pull and $G$ the repulsion,
#
# $$a' = \beta F(0) + \kappa a, \qquad \kappa = \tfrac12 \beta F'(0) - G(-1), \qquad b' = \tfrac12 \beta F'(0)\, b.$$
#
# $b$ is what must grow: the pair turning towards the modes. $a$ is what must not: the pair being dragged to the heavier one. After the
# quench the pair separates if $b > \psi(a)$, with an increasing $\psi$. Now measure time by $\tau = \int_0^t \beta$. Then $b$ has grown by
# $e^{F'(0) \tau / 2}$, however $\tau$ was spent, but
#
# $$a(D) = F(0) \int_0^{\tau_D} e^{\frac12 F'(0)(\tau_D - \tau)}\; e^{-G(-1)\,(D - t(\tau))}\, d\tau$$
#
# is the smaller the *earlier* each $\tau$ is spent: the drag decays at the rate $G(-1)$ while one waits, and what has been gained in $b$
# does not. So β is worth more early than late. In the language of control, the derivative of $\log b_c$ with respect to $\beta(t)$ is
#
# $$S(t) = \frac{\psi'}{\psi} \left( F(0) + \tfrac12 F'(0)\, a(t) \right) e^{\int_t^D \kappa} - \tfrac12 F'(0),$$
#
# and its slope has the sign of $F(0)\, G(-1) > 0$ for *every* $\beta(t)$, not the best one only.
#
# That explains both results. If β may do as it likes, it should be large at first and small later: begin cold, then wait in the heat. If β
# may only grow, $\tau(t)$ is convex and lies below its chord; the earliest that it can be is the chord itself, a constant β. What is left
# is a jump to $\beta = 1$ at the end: hold, then quench. (The pair's first moments, when $s$ has not yet reached $-1$, are outside this
# argument. The numbers above include them.)
#
# At which temperature should one hold? A long hold waits, like the slow schedule above, and the best temperature is the one at which
# $\lambda$ is largest, 499 here. A shorter hold does better a little colder, by an amount that goes like $1/D$. The dimension hardly
# matters.

# %%
ultimate = annealvi.ultimate_hold(problem)
print("best T of a hold of duration D, and P(collapse)")
for d in (16, 128, 16_384):
    holds = [annealvi.best_hold(replace(problem, space=annealvi.Space(d)), duration) for duration in (500, 1000, 2000, 4000, 8000)]
    cells = ", ".join(
        f"{duration}: {h.temperature:.0f} ({h.p:.2g})" for duration, h in zip((500, 1000, 2000, 4000, 8000), holds, strict=True)
    )
    print(f"d = {d:6d}  {cells}")
print(f"D -> infinity: {ultimate.temperature:.0f}; there -log P grows by {ultimate.rate:.2e} per unit of time")

# %% [markdown]
# The free curve may look like a trick, so here it is put to the test, with the hold, by trajectories that know nothing of a formula:

# %%
for name, curve in (("hold, then quench", falling), ("free", free)):
    points = [*zip(curve.t.tolist(), curve.T.tolist(), strict=True), (D + 25, 1.0)]  # a quench that takes 25 units of time
    table = ScheduleSpec("table", points=tuple(points))
    session = annealvi.open_session(replace(problem, schedule=table))
    outcomes = collapse_by_ensemble(session, n=4000, seed=2).outcomes
    print(f"{name}: P = {curve.p:.4f} to leading order, {outcomes.p:.4f} ± {outcomes.stderr:.4f} by trajectories")

# %% [markdown]
# ## In practice
#
# `annealvi.recommend(problem, p_max)`, or `annealvi recommend --p-max 0.05`, searches seven kinds of schedule for the shortest with
# P(collapse) ≤ p_max, and checks the winner with an ensemble. Here are two of them:

# %%
advice = annealvi.recommend(problem, 0.05, kinds=("hold", "linear"), n=4000)
for c in advice.compared:
    print(f"{c.kind}: T0 = {c.T0:.0f}, t0 = {c.t0:.0f}, duration {c.duration:.0f}; P = {c.equal:.3f} in {advice.duration:.0f}")
print(f"checked: {advice.p_ode:.4f} ± {advice.stderr:.4f}")

# %% [markdown]
# Where the separation of the modes is known only roughly, give a range, `R=(2.0, 3.5)`: the answer is then the cheapest schedule for the
# worst of them. If in doubt, err on the hot side: the dots of the first figure lie in wide valleys, and the cold side is where runs are
# lost for good. And keep in mind what the theory is about: a gradient flow in continuous time. An optimiser with a finite learning rate
# may not survive a quench from $T = 340$ to $1$. The best linear schedule asks for about a quarter more time, and is gentle.
