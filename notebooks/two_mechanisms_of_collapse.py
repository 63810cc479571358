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
# # Two mechanisms of mode collapse
#
# Install, in a clone of the repository: `python -m pip install . jupyter` (or, with uv, `uv run --with jupyter jupyter
# lab`).
#
# When the weights of the proposal are learned along with its means, a mode can be lost in two ways. Both components may
# end at the same mode: the *means align*. Or one component is still on its way when the other has arrived; the
# objective then takes its weight away, and it arrives, if at all, with none: the *weight vanishes*. Annealing prevents
# both, the second one easily, the first one if it begins hot enough and is slow enough.
#
# The equations are derived for this problem as for any other: `learned-weights` is the study's bimodal target with
# `learn = ["means", "weights"]`. Five summary statistics are left: the cosines $m_1, m_2$ with the target's axis, the
# cosine $s$ between the components, and the weights $w_1, w_2$.

# %%
import dataclasses

import numpy as np

import annealvi
from annealvi import ScheduleSpec, style

problem = annealvi.load_problem("learned-weights")
cold = annealvi.open_session(dataclasses.replace(problem, schedule=ScheduleSpec("constant", 1.0)))
annealed = annealvi.open_session(dataclasses.replace(problem, schedule=ScheduleSpec("exponential", 60.0, 60.0)))
{str(state): rate for state, rate in zip(cold.derivation.system.states, cold.derivation.system.rhs, strict=True)}

# %% [markdown]
# Two hundred random starts at $\beta = 1$, until the means have settled. The weights have not: a small one comes back,
# if its mean is at a mode, in a time of order one over itself. `annealvi collapse learned-weights` therefore reads the
# weights at several times, and counts those below a tenth of the mode's own (`--least-weight`):

# %%
ensemble = annealvi.integrate(cold, n=200, t_end=40.0, points=41, seed=1)
start, end = ensemble.values[:, 0], ensemble.values[:, -1]
aligned = np.sign(end[:, 0]) == np.sign(end[:, 1])
vanished = end[:, 3:].min(axis=1) < 0.05
print(
    f"means aligned: {aligned.mean():.0%}, a weight below 0.05: {vanished.mean():.0%}, neither: "
    f"{(~aligned & ~vanished).mean():.0%}"
)

# %% [markdown]
# The same starts, annealed from ever hotter beginnings. No weight vanishes any more, and alignment, which is decided
# early, takes much heat to prevent:


# %%
def shares_lost(T0, t0):
    here = annealvi.open_session(dataclasses.replace(problem, schedule=ScheduleSpec("exponential", T0, t0)))
    end = annealvi.integrate(here, n=200, t_end=t0 * np.log(T0) + 50, points=2, seed=1).values[:, -1]
    return (np.sign(end[:, 0]) == np.sign(end[:, 1])).mean(), (end[:, 3:].min(axis=1) < 0.05).mean()


for T0, t0 in ((60.0, 60.0), (300.0, 200.0), (1000.0, 400.0)):
    lost = shares_lost(T0, t0)
    print(f"T0 = {T0:g}, t0 = {t0:g}: means aligned: {lost[0]:.0%}, a weight below 0.05: {lost[1]:.0%}")

# %% [markdown]
# One start of each kind, followed at $\beta = 1$ and with annealing. Lines are the derived equations, points are
# particles in 128 dimensions, which know the two densities only: the mean of eight runs with two standard errors.


# %%
def particles(session, state, t_end, dt):
    initial = np.repeat(session.means_of_states(state)[None], 8, axis=0)
    return annealvi.simulate(session, initial, dt=dt, t_end=t_end, points=15, particles=256, seed=3)


def draw(panels, session, state, t_end, dt, title):
    line = annealvi.integrate(session, state[None], t_end=t_end, points=300)
    cloud = particles(session, state, t_end, dt)
    for panel, first, name in ((panels[0], 0, "m"), (panels[1], 3, "w")):
        for n in (0, 1):
            panel.plot(line.t, line.values[0, :, first + n], **style.line(n), label=f"${name}_{n + 1}$")
            error = 2 * cloud.standard_error[:, first + n]
            panel.errorbar(cloud.t, cloud.values[:, :, first + n].mean(0), error, **style.points(n), ms=3, lw=0.8)
    panels[0].set(ylim=(-1.1, 1.1))
    panels[0].set_title(title)
    panels[1].set(xlabel=style.LABELS["t"], ylim=(-0.03, 1.03))


first_aligned = start[np.flatnonzero(aligned & ~vanished)[0]]
first_vanished = start[np.flatnonzero(vanished & ~aligned)[0]]
with style.figure(style.TWO_COLUMNS, 3.6, 2, 3, sharex="col", sharey="row") as (figure, grid):
    draw(grid[:, 0], cold, first_aligned, 12.0, 0.03, r"$\beta = 1$: the means align")
    draw(grid[:, 1], cold, first_vanished, 12.0, 0.03, r"$\beta = 1$: a weight vanishes")
    draw(grid[:, 2], annealed, first_vanished, 500.0, 0.2, "the second start, annealed")
    grid[0, 0].set_ylabel("cosine $m_i$ with the axis")
    grid[1, 0].set_ylabel("weight $w_i$")
    for row in grid:
        row[0].legend()
style.save(figure, "../paper/figures/two-mechanisms.png")
figure
