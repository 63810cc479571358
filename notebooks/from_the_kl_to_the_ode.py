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
# # From the KL divergence to a verified ODE
#
# Install: `python -m pip install annealvi` (or `uv run --with jupyter jupyter lab` in a clone).
#
# A Gaussian-mixture proposal learns a bimodal target by gradient flow of the reverse KL, while the target is annealed from hot to
# cold. This notebook derives the flow of its overlaps from the objective, integrates it, and compares it with particles in 128
# dimensions.

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, Math, display

import annealvi
from derive.problem import ScheduleSpec
from derive.rendering import final_equations

problem = annealvi.load_problem("bimodal")
session = annealvi.open_session(problem)
problem  # noqa: B018 — a notebook shows its last expression

# %% [markdown]
# ## The derivation is a value
#
# An ordered list of steps. Each has a rule, a statement, and equations before and after, and `annealvi verify` gives both sides
# their meaning in coordinates and compares them to 30 digits.

# %%
for number, step in enumerate(session.derivation.steps, 1):
    display(Markdown(f"**{number}. {step.rule}.** {step.statement}"))

# %% [markdown]
# The result, in the three overlaps $m_1, m_2$ (with the target's axis) and $s$ (of the components with each other):

# %%
for equation in final_equations(session.derivation):
    display(Math(equation.latex()))

# %% [markdown]
# ## One start, two schedules
#
# The same random initial means, cold from the start and annealed.

# %%
cold = annealvi.open_session(dataclasses.replace(problem, schedule=ScheduleSpec("constant", 1.0)))
start = cold.random_states(300, seed=1)
runs = {"β = 1 throughout": annealvi.integrate(cold, start, t_end=40), "annealed (T0 = 300, t0 = 1152)": annealvi.integrate(session, start)}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for axis, (name, paths) in zip(axes, runs.items(), strict=True):
    end = paths.values[:, -1]
    collapsed = np.sign(end[:, 0]) == np.sign(end[:, 1])
    for outcome, colour, label in ((~collapsed, "#0072B2", "both modes found"), (collapsed, "#D55E00", "collapsed")):
        if outcome.any():
            axis.plot(paths.t, np.concatenate([paths.values[outcome, :, n] for n in (0, 1)]).T, color=colour, lw=0.5, alpha=0.25)
            axis.plot([], [], color=colour, label=label)
    axis.set(title=f"{name}: {collapsed.mean():.0%} collapse", xlabel="time t")
axes[0].set_ylabel("$m_1$ and $m_2$")
axes[1].legend(frameon=False, loc="center right")
plt.show()

# %% [markdown]
# ## Particles agree
#
# The particle simulation knows the two densities and how to sample; it never sees the equations above.

# %%
means = np.array([[3.0 * 0.6, 3.0 * 0.8, *np.zeros(126)], [-0.12, -0.2, np.sqrt(9 - 0.12**2 - 0.2**2), *np.zeros(125)]])
cloud = annealvi.simulate(cold, np.repeat(means[None], 32, axis=0), t_end=6, dt=0.05, points=13, particles=256, seed=3)
theory = annealvi.integrate(cold, cold.states_of_vectors(means[None]), t_end=6)

figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for n, (name, colour) in enumerate(zip(cloud.states, ("#0072B2", "#D55E00", "#009E73"), strict=True)):
    axis.plot(theory.t, theory.values[0, :, n], color=colour, label=f"${name}$")
    mean, error = cloud.values[:, :, n].mean(0), cloud.standard_error[:, n]
    axis.errorbar(cloud.t, mean, 2 * error, fmt="o", ms=4, mfc="white", color=colour)
axis.set(xlabel="time t", ylabel="overlap", title="lines: derived ODE; points: particles, ± 2 s.e.")
axis.legend(frameon=False)
plt.show()

# %%
worst = np.abs(np.array([np.interp(cloud.t, theory.t, theory.values[0, :, n]) for n in range(3)]).T - cloud.values.mean(0)).max()
assert worst < 0.05, worst  # the bias of the step, of first order in dt, and four standard errors of some 0.01
