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
# # From the KL divergence to the ODE
#
# Install, in a clone of the repository: `python -m pip install . jupyter` (or, with uv, `uv run --with jupyter jupyter
# lab`).
#
# A mixture of Gaussians is fitted to a bimodal target by descending the reverse KL divergence while the target is
# annealed from hot to cold. All that matters of this flow in $d$ dimensions are three numbers, and they obey an
# ordinary differential equation. It was found by Fogliani, Loureiro and Gabrié
# ([arXiv:2602.12923](https://arxiv.org/abs/2602.12923)), after Soletskyi, Gabrié and Loureiro
# ([arXiv:2410.13300](https://arxiv.org/abs/2410.13300)) had treated the case without annealing. Here it is derived
# anew, by a program, one step at a time; then integrated; then compared with a simulation that knows nothing of it.

# %%
from dataclasses import replace

import numpy as np
from IPython.display import Markdown, Math, display

import annealvi
from annealvi import derivation_checks, final_equations, outcomes_of_states, style

problem = annealvi.load_problem("bimodal")
session = annealvi.open_session(problem)
general = session.derivation.general.steps
steps = (*general, *session.derivation.written_out[len(general) :])


def show(number, *labels):
    """A step of the derivation in words, and those of its equations that are asked for."""
    step = steps[number - 1]
    display(Markdown(f"**{number}. {step.rule}.** {step.statement}"))
    for equation in step.after:
        if equation.label in labels:
            display(Math(equation.latex()))


# %% [markdown]
# ## The objective
#
# The target $p^\star$ is a mixture of $K$ Gaussians with means $\nu_k$, the proposal $q$ one of $L$ with means $a_i$,
# which move on spheres. At inverse temperature $\beta = 1/T$ they descend the divergence of $q$ from
# $(p^\star)^\beta / Z(\beta)$. The derivation is done once, for any $K$ and $L$.

# %%
display(Math(steps[0].before[0].latex()))
show(1, "objective")

# %% [markdown]
# ## Its gradient
#
# A mean enters twice: through the samples of its component, and through $\log q$. The second part is zero, as always
# with a score function. Of the first, Stein's lemma leaves nothing but averages of responsibilities: $\rho_j(x)$, the
# probability that $x$ came from component $j$ of $q$, and $\rho^\star_k(x)$, that it came from mode $k$. $\mathbb E_i$
# is the average over $x_i \sim N(a_i, \sigma_i^2 I)$.

# %%
show(2, "through_gradient_i", "explicit_gradient_i")
show(3, "through_gradient_i", "explicit_gradient_i")
show(4, "explicit_gradient_i")
show(5, "explicit_gradient_i")
show(6, "gradient_i")
show(7, "gradient_i")
show(8)
show(9, "gradient_i", "share_ij", "share_star_ik")

# %% [markdown]
# The share $\hat\rho_{ij}$ is component $j$'s responsibility, averaged under component $i$; where scales differ, pairs
# of responsibilities correct it.
#
# ## From $d$ dimensions to a few numbers
#
# The flow moves each mean against its gradient, along the sphere. Every velocity is a combination of means and modes,
# so the inner products of those vectors, $M_{ik} = a_i \cdot \nu_k$ and $Q_{ij} = a_i \cdot a_j$, change at rates that
# are made of inner products again. And the responsibilities see a sample $x$ through inner products only, which are
# jointly Gaussian. The system is closed, exactly and in every dimension.

# %%
show(10, "velocity_i")
show(11)
show(12, "dM_in", "D_in", "rho_ij", "rho_star_ik")

# %% [markdown]
# ## Two modes, two components
#
# The study's target has two opposite modes $\nu_1 = R\mu^\star$ and $\nu_2 = -R\mu^\star$ of weights $w^\star = 0.8$
# and $1 - w^\star$; $\|\mu^\star\| = 1$ and $R = 3$. The proposal has two components of weight one half, whose means
# $a_i = R\mu_i$ move on the sphere of radius $R$ in $d = 128$ dimensions; all scales are one. With two of each a
# softmax is a hyperbolic tangent, and a shift of the integration variable makes the repulsion symmetric.

# %%
show(13, "dM_11")
show(14, "rho_12", "rho_star_11")
show(15, "dM_11")
show(16, "F_1", "h_star", "dM_11")
show(17, "g", "lambda_q", "dM_11")
show(18)

# %% [markdown]
# The result, in the cosines $m_i$ between $\mu_i$ and $\mu^\star$ and the cosine $s$ between $\mu_1$ and $\mu_2$; $z$
# is a standard normal variable:

# %%
for equation in final_equations(session.derivation):
    display(Math(equation.latex()))

# %% [markdown]
# $F_i$ is the pull of the target on component $i$, which β weakens; $g$ is the repulsion of the components, the
# entropy's, which β does not touch. All of annealing is in this difference.
#
# None of it has to be believed. Each step says that two sides are equal, and both have a meaning in coordinates that
# owes nothing to the algebra: at random points, the general steps at $K = L = 2$, the two are computed to 30 digits and
# compared.

# %%
checks = list(derivation_checks(session.derivation))
for number, check in enumerate(checks, 1):
    print(f"{number:2d}. {check.name.removeprefix('step: '):38s} largest difference {check.statistic:.0e}")
assert len(checks) == len(steps) == 18
assert all(check.passed for check in checks)

# %% [markdown]
# ## The same starts, cold and annealed
#
# Two thousand pairs of random means, once at $\beta = 1$ throughout, once along the study's schedule $T = 1 + (T_0 -
# 1)\, e^{-t/t_0}$ with $T_0 = 300$, $t_0 = 1152$. In 128 dimensions they begin near the centre of the plane of $m_1$
# and $m_2$. What they end at is one of its corners.

# %%
cold = annealvi.open_session(replace(problem, schedule=annealvi.ScheduleSpec("constant", 1.0)))
starts = cold.random_states(2000, seed=1)
runs = {
    "cold": (cold, annealvi.integrate(cold, starts, t_end=40.0)),
    "annealed": (session, annealvi.integrate(session, starts, points=401)),
}

with style.figure(style.TWO_COLUMNS, 3.4, columns=2, sharex=True, sharey=True) as (figure, panels):
    for panel, (name, (here, paths)) in zip(panels, runs.items(), strict=True):
        drawn = paths.values[:300]
        lost = outcomes_of_states(here, drawn[:, -1]).collapsed
        # Those that are rarer lie on top.
        for runs_of_kind, colour in sorted(((~lost, style.KEPT), (lost, style.LOST)), key=lambda pair: -pair[0].sum()):
            panel.plot(*drawn[runs_of_kind, :, :2].transpose(2, 1, 0), color=colour, lw=0.5, alpha=0.35)
        panel.plot(*starts[:300, :2].T, ".", color=style.BLACK, ms=1.5)
        panel.set_title(r"$\beta = 1$" if name == "cold" else "$T_0 = 300$, $t_0 = 1152$")
        panel.set_xlabel("$m_1$")
        panel.set_aspect("equal")
    panels[0].set_ylabel("$m_2$")
    corners = (
        (1, 1, "both at the heavier"),
        (1, -1, "one at each"),
        (-1, 1, "one at each"),
        (-1, -1, "both at the lighter"),
    )
    for panel in panels:
        for x, y, words in corners:
            look = {"ha": "right" if x > 0 else "left", "va": "bottom" if y > 0 else "top", "fontsize": style.SMALL}
            panel.annotate(words, (1.08 * x, 1.06 * y), **look, color=style.LOST if x == y else style.KEPT)
        panel.set(xlim=(-1.15, 1.15), ylim=(-1.25, 1.25))
figure

# %% [markdown]
# *Paths from 300 of the starts (dots), in blue those that keep both modes. Cold, most are pulled to the heavier mode
# together. Hot, the repulsion first drives a pair apart, to $s = -1$; then it turns towards the modes along the
# diagonal.*
#
# The shares, with their standard errors, and beside them the probability by the separatrix formula of the next
# notebook, which does not sample:

# %%
shares = {}
for name, (here, paths) in runs.items():
    found = outcomes_of_states(here, paths.values[:, -1])
    formula = annealvi.collapse_probability(here, ("formula",)).formula.p
    print(
        f"{name:8s}: P(collapse) = {found.p:.3f} ± {found.stderr:.3f} of {len(starts)} runs, "
        f"{formula:.3f} by the formula"
    )
    assert abs(found.p - formula) < 4 * found.stderr
    shares[name] = formula

# %% [markdown]
# ## Particles agree
#
# The particle simulation draws 256 samples of each component at every step and moves all $2 \times 128$ coordinates of
# the means by the gradient that it estimates from them. It knows two densities and how to sample, and none of the
# equations above. Its Euler steps have a bias of first order in their length, so every run is made twice, with half the
# step the second time, and extrapolated to none.

# %%
means = np.array([[1.8, 2.4, *np.zeros(126)], [-0.12, -0.2, np.sqrt(9 - 0.12**2 - 0.2**2), *np.zeros(125)]])
replicas = np.repeat(means[None], 64, axis=0)
cloud = annealvi.simulate(cold, replicas, t_end=6.0, dt=0.05, points=25, seed=3, extrapolate=True)
line = annealvi.integrate(cold, cold.states_of_vectors(means[None]), t_end=6.0)
theory = np.array([np.interp(cloud.t, line.t, line.values[0, :, n]) for n in range(3)]).T
difference = (cloud.values.mean(0) - theory)[1:] / cloud.standard_error[1:]

layout = {"rows": 2, "sharex": True, "height_ratios": (3, 1)}
with style.figure(4.6, 3.6, **layout) as (figure, (above, below)):
    for n, name in enumerate(("$m_1$", "$m_2$", "$s$")):
        above.plot(line.t, line.values[0, :, n], **style.line(n), label=name)
        above.errorbar(
            cloud.t, cloud.values[:, :, n].mean(0), 2 * cloud.standard_error[:, n], **style.points(n), ms=3.5, lw=0.9
        )
        below.plot(cloud.t[1:], difference[:, n], **style.points(n), ms=3)
    below.axhspan(-2, 2, color=style.BAND, zorder=0)
    above.set_ylabel("overlap")
    above.legend(loc="lower right")
    below.set(xlabel=style.LABELS["t"], ylabel="difference / s.e.", ylim=(-4.5, 4.5))
figure

# %% [markdown]
# *Lines: the derived ODE. Points: the mean of 64 particle runs with two standard errors. Below: the difference in
# standard errors; the points of one run follow one another, so they are not independent. Both components end near the
# heavier mode: a collapse.*

# %%
print(
    f"largest difference: {np.abs(difference).max():.1f} standard errors; "
    f"half the step would have left a bias of {np.abs(cloud.bias).max():.4f}"
)
assert (
    np.abs(difference).max() < 4.5
)  # 72 comparisons, Student's t of 63 degrees of freedom: beyond this once in some 400 notebooks

# %% [markdown]
# `annealvi verify` does this for three schedules, and compares the equations with the KL's gradient on grids besides,
# with every one-term mutant of them as a negative control. It takes a minute.
#
# Next: [2_collapse_temperature_and_rate](2_collapse_temperature_and_rate.ipynb), when annealing saves the modes, and
# how slow it has to be.
