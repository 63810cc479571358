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
# # Components that learn their shape
#
# Gaussian-mixture variational inference as it is practised learns covariances, too. Does that change mode collapse?
# This notebook lets the two components of the study learn the variance along the axis through the modes, or a scale in
# all directions, and compares: the one undoes what annealing gains, the other makes it far better. It ends with
# two crossed modes at one place, which no overlap of means tells apart.
#
# ## A problem with covariances
#
# `covariances` are matrices in the coordinates of the target's means; outside these coordinates a component has its
# scale. A flow that learns `"covariances"` starts from them, or from the scales.

# %%
from dataclasses import replace

import numpy as np
from IPython.display import Math, display
from matplotlib.patches import Ellipse

import annealvi
from annealvi import collapse_by_ensemble, grid_checks, load_problem, open_session, references, style

problem = load_problem("full-covariance", ["schedule.T0=20", "schedule.t0=100", "space.dimension=8"])
session = open_session(problem)
print(annealvi.problem_to_toml(problem))
print("states:", *session.state_names)

# %% [markdown]
# The mean of component $i$ has the coordinates $X_{in}$ in the target's span, and $\Sigma_i$ is its covariance there.
# In the metric "log", $\dot\Sigma = -4\,\Sigma\,\nabla_\Sigma\mathcal L\,\Sigma$, and the derivation finds that
# only moments of single responsibilities are needed, whatever the number of coordinates:

# %%
wanted = ("dX_in", "dSigma_inm", "f_in", "B_inm")
for equation in annealvi.derivation(problem).closed:
    if equation.label in wanted:
        display(Math(equation.latex()))

# %% [markdown]
# The right-hand side against the gradient of the KL on grids, into which only the two densities enter:

# %%
for check in grid_checks(problem, session.derivation, references(problem), session.values):
    print(f"{check.name}: {check.statistic:.0e}, bound {check.bound:.0e}")
    assert check.passed

# %% [markdown]
# ## Stretch, and forget
#
# One start, annealed from $T = 20$, with fixed and with learned variances. Hot, a component that may stretch along the
# axis covers both modes at once. As the target cools it contracts onto the heavier one, and so does the other
# component: where they started is forgotten.

# %%
start = session.random_states(16, seed=2)
fixed = open_session(replace(problem, flow=annealvi.Flow(learn=("means",))))
options = {"t_end": 500.0, "points": 251, "rtol": 1e-6, "tolerance": 1e-7}
apart = annealvi.integrate(fixed, fixed.random_states(16, seed=2), **options)
learned = annealvi.integrate(session, start, **options)
places = session.state_names.index("X_11"), session.state_names.index("X_21")
opposite = np.sign(apart.values[:, -1, 0]) != np.sign(apart.values[:, -1, 1])
together = np.sign(learned.values[:, -1, places[0]]) == np.sign(learned.values[:, -1, places[1]])
which = int(np.flatnonzero(opposite & together)[0])
radius = problem.proposal.radii[0]
with style.figure(style.TWO_COLUMNS, 2.5, columns=3, sharex=True) as (figure, panels):
    for n in range(2):
        panels[0].plot(apart.t, radius * apart.values[which, :, n], **style.line(n), label=f"component {n + 1}")
        panels[1].plot(learned.t, learned.values[which, :, places[n]], **style.line(n))
        variance = learned.values[which, :, session.state_names.index(f"Sigma_{n + 1}_11")]
        panels[2].semilogy(learned.t, variance, **style.line(n))
    panels[0].set(title="fixed variance", ylabel="place along the axis", ylim=(-3.3, 3.3))
    panels[1].set(title="learned variance", ylim=(-3.3, 3.3))
    panels[2].set(title="the learned variance")
    for panel in panels:
        panel.set(xlabel="time $t$")
    panels[0].legend()
figure

# %% [markdown]
# ## How often
#
# $P(\text{collapse})$ against the initial temperature at one annealing rate, by ensembles of the derived equations. A
# scale that is learned in all directions does the opposite: the components widen while the target is hot, repel each
# other over a longer distance, and have parted before the modes pull.

# %%
KINDS = {"fixed": ("means",), "learned scales": ("means", "scales"), "learned variances": ("means", "covariances")}
STARTS = (1.0, 5.0, 25.0)
n = 150


def collapse(learn, T0):
    schedule = annealvi.ScheduleSpec("exponential", T0, 100.0)
    here = replace(problem, flow=annealvi.Flow(learn=learn), schedule=schedule)
    return collapse_by_ensemble(open_session(here), n=n, seed=1).outcomes


found = {name: [collapse(learn, T0) for T0 in STARTS] for name, learn in KINDS.items()}
with style.figure(style.ONE_COLUMN, 2.6) as (figure, axes):
    for m, (name, outcomes) in enumerate(found.items()):
        p, error = np.array([(o.p, 2 * o.stderr) for o in outcomes]).T
        axes.errorbar(STARTS, p, error, **style.line(m), label=name)
    axes.set(xscale="log", xlabel="initial temperature $T_0$", ylabel="$P$(collapse)", ylim=(0, 1))
    axes.legend()
hot = {name: outcomes[-1] for name, outcomes in found.items()}
assert hot["learned scales"].p < hot["fixed"].p < hot["learned variances"].p
figure

# %% [markdown]
# The particles, which know nothing of these equations, agree. Here the learned variances, with as many replicas as a
# minute allows:

# %%
particles = annealvi.collapse_by_particles(session, replicas=32, particles=32, dt=0.25, seed=3)
ensemble = collapse_by_ensemble(session, n=500, seed=2)
print(f"particles {particles.outcomes.p:.3f} ± {particles.outcomes.stderr:.3f}, ", end="")
print(f"equations {ensemble.outcomes.p:.3f} ± {ensemble.outcomes.stderr:.3f}")
assert abs(particles.outcomes.p - ensemble.outcomes.p) < 4 * np.hypot(
    particles.outcomes.stderr, ensemble.outcomes.stderr
)

# %% [markdown]
# ## Crossed modes
#
# Two elongated modes at one place. Their means coincide, so overlaps of means say nothing; the components part by their
# shapes alone. (A component belongs to the mode under which its samples are likeliest.)

# %%
crossed = load_problem("cross", ["space.dimension=8", "schedule.T0=5", "schedule.t0=5"])
cross = open_session(crossed)
paths = annealvi.integrate(cross, n=1, seed=1, t_end=60.0, points=61, rtol=1e-6)


def ellipse(covariance: np.ndarray, **options: object) -> Ellipse:
    (small, large), axes = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    return Ellipse((0, 0), 4 * np.sqrt(large), 4 * np.sqrt(small), angle=angle, fill=False, **options)


with style.figure(style.TWO_COLUMNS, 2.4, columns=3) as (figure, panels):
    for panel, at in zip(panels, (0, 8, 60), strict=True):
        for mode in crossed.target.covariances:
            panel.add_patch(ellipse(np.array(mode), color=style.FAINT, lw=4))
        for n, covariance in enumerate(cross.covariances_of_states(paths.values[0, at])):
            panel.add_patch(ellipse(covariance, lw=1.4, color=f"C{n}"))
        panel.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal", title=f"$t = {paths.t[at]:g}$")
assert not annealvi.outcomes_of_states(cross, paths.values[:, -1]).collapsed[0]
figure

# %% [markdown]
# At the end each component has the covariance of one mode (grey: two standard deviations of the modes). `annealvi
# verify cross` checks its equations, `annealvi rhs cross --state state.json` evaluates them at a state of yours.
