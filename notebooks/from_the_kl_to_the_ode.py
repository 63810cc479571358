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
problem

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
hot = annealvi.open_session(dataclasses.replace(problem, schedule=ScheduleSpec("exponential", 60.0, 200.0)))
start = cold.random_states(200, seed=1)
runs = {"β = 1": annealvi.integrate(cold, start, t_end=40), "annealed": annealvi.integrate(hot, start, t_end=1800)}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for axis, (name, paths) in zip(axes, runs.items(), strict=True):
    axis.plot(paths.t, paths.values[:, :, 0].T, color="#0072B2", lw=0.5, alpha=0.3)
    axis.plot(paths.t, paths.values[:, :, 1].T, color="#D55E00", lw=0.5, alpha=0.3)
    end = paths.values[:, -1]
    collapsed = np.mean(np.sign(end[:, 0]) == np.sign(end[:, 1]))
    axis.set(title=f"{name}: {collapsed:.0%} of runs collapse", xlabel="time t")
axes[0].set_ylabel("$m_1$ (blue), $m_2$ (orange)")
plt.show()

# %% [markdown]
# ## Particles agree
#
# The particle simulation knows the two densities and how to sample; it never sees the equations above.

# %%
means = np.array([[3.0 * 0.6, 3.0 * 0.8, *np.zeros(126)], [-0.6, 0.0, np.sqrt(9 - 0.36), *np.zeros(125)]])
cloud = annealvi.simulate(cold, np.repeat(means[None], 16, axis=0), t_end=6, dt=0.05, particles=256, seed=3)
theory = annealvi.integrate(cold, cold.states_of_vectors(means[None]), t_end=6)

figure, axis = plt.subplots(figsize=(5.5, 3.4))
for n, name in enumerate(cloud.states):
    (line,) = axis.plot(theory.t, theory.values[0, :, n], label=f"${name}$")
    mean, error = cloud.values[:, :, n].mean(0), cloud.standard_error[:, n]
    axis.fill_between(cloud.t, mean - 2 * error, mean + 2 * error, color=line.get_color(), alpha=0.3)
axis.set(xlabel="time t", ylabel="overlap", title="lines: derived ODE; bands: particles, two standard errors")
axis.legend(frameon=False)
plt.show()

# %%
worst = np.abs(np.array([np.interp(cloud.t, theory.t, theory.values[0, :, n]) for n in range(3)]).T - cloud.values.mean(0)).max()
assert worst < 0.03, worst  # the step's bias, of first order in dt, dominates
