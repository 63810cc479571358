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
# # Choosing a schedule for your flow
#
# Install, in a clone of the repository: `python -m pip install ".[flows]" jupyter` (or, with uv,
# `uv run --extra flows --with jupyter jupyter lab`).
#
# A normalizing flow that is trained on the reverse KL loses modes, too. The theory of annealing
# ([arXiv:2602.12923](https://arxiv.org/abs/2602.12923), with [arXiv:2410.13300](https://arxiv.org/abs/2410.13300)) is
# about Gaussian mixtures. What of it can be used for a flow, and what must not be? First a schedule from the theory;
# then what some hundred trained flows say of it; then flows that train here, in a minute or two; then the one line that
# goes into your own training loop.

# %%
from dataclasses import replace

import numpy as np
import xarray as xr
from scipy.stats import fisher_exact

import annealvi
from annealvi import (
    Architecture,
    Optimiser,
    flow_figure,
    kinds_figure,
    map_figure,
    schedule_within,
    style,
    training_figure,
)

RESULTS = "../tests/benchmarks/results/flows/"


def stored(name):
    """A result of tests/benchmarks/flows.py, whose experiments take two hours."""
    with xr.open_dataset(f"{RESULTS}{name}.nc") as data:
        data = data.load()
    return data.assign_coords(kind=data["kind"].astype(str)) if "kind" in data.coords else data


# %% [markdown]
# ## What the theory advises
#
# For two Gaussian components under two modes, $R = 3$, $w^\star = 0.8$, in 16 dimensions: the shortest schedules that
# collapse with probability 0.05 at most.

# %%
problem = annealvi.Problem(space=annealvi.Space(16))
advice = annealvi.recommend(problem, 0.05, kinds=("hold", "linear"), n=4000)
for c in advice.compared:
    print(f"{c.kind:10s} T0 = {c.T0:5.0f}, duration {c.duration:5.0f}; P = {c.equal:.3f} in {advice.duration:.0f}")
print(f"{advice.schedule.kind} by 4000 trajectories: P = {advice.p_ode:.4f} ± {advice.stderr:.4f}")
assert advice.schedule.kind == "hold"
assert advice.compared[0].T0 > 100

# %% [markdown]
# Hold a temperature of some hundreds, then quench: this is optimal for the mixture, whose components have a fixed
# width. A flow has none.
#
# ## What transfers to flows, and what does not
#
# RealNVP flows of six couplings under the same targets, from the repository's
# [benchmarks](../tests/benchmarks/README.md#flows), with the theory beside them. The time scale counts optimiser steps
# on the left, and the gradient flow's time on the right; between the two there is no fixed ratio, so what may be
# compared is the shape.

# %%
map_figure(stored("map-16-linear"), stored("map-16-linear-theory"), "RealNVP flows, $d = 16$, 8 seeds")

# %% [markdown]
# *P(collapse) under linear cooling. Each cell on the left is the share of 8 flows, judged 2000 steps after the
# annealing; none of 8 means $P < 0.37$ at 95 % confidence. **The trade-off transfers**: at a fixed time scale a start
# can be too cold or too hot, and the best one is hotter where there is more time.*

# %%
flows = stored("map-16-linear")
row = flows.isel({"schedule.t0": 1})
counts = row["collapsed"].sum("seed").to_numpy().astype(int)
for T0, count in zip(row["schedule.T0"].to_numpy(), counts, strict=True):
    print(f"t0 = {float(row['schedule.t0']):.0f}, T0 = {T0:5.1f}: {count} of 8 collapsed")
fewest = counts.min()
for count in counts[[0, -1]]:  # both ends differ from it by more than chance
    assert fisher_exact([[fewest, 8 - fewest], [count, 8 - count]]).pvalue < 0.01

# %%
kinds_figure(stored("kinds-16"), stored("kinds-16-theory"), "RealNVP flows, $d = 16$, 8 seeds")

# %% [markdown]
# *Kinds of schedule, all of which reach $T = 1.05$ after 1500 of 3500 steps. Left: the share of 8 flows with its 95 %
# interval; grey: no annealing, for as many steps in all, and for as many as the others have at $T = 1$. Middle: half
# the sum of the weights' errors. Right: the theory. **The optimal schedule does not transfer**: hold-and-quench is best
# on the right and worst on the left.*
#
# In numbers:

# %%
flows, theory = stored("kinds-16"), stored("kinds-16-theory")
kind, T0, collapsed = flows["kind"].to_numpy(), flows["T0"].to_numpy(), flows["collapsed"].to_numpy()


def lost(where):
    """[collapsed, not collapsed] of the flows of all schedules for which `where` is true."""
    here = collapsed[where]
    return [int(here.sum()), int(here.size - here.sum())]


cold, cold_for_as_long = (lost(n) for n in np.flatnonzero(kind == "none"))
mild, hot = lost((kind == "hold") & (T0 < 9)), lost((kind == "hold") & (T0 > 18))
gradual = lost((kind == "geometric") | (kind == "exponential"))
print(f"no annealing, 3500 steps:      {cold[0]} of {sum(cold)}")
print(f"no annealing, 2000 steps:      {cold_for_as_long[0]} of {sum(cold_for_as_long)}")
print(f"hold below twice the barrier:  {mild[0]} of {sum(mild)}")
print(f"hold above four times:         {hot[0]} of {sum(hot)}")
print(f"geometric, exponential:        {gradual[0]} of {sum(gradual)}")
print(f"theory, hold at T0 = 300:      {float(theory['p'].sel(kind='hold').sel(T0=300, method='nearest')):.2f}")
assert fisher_exact([hot, gradual]).pvalue < 1e-6
assert fisher_exact([hot, mild]).pvalue < 1e-6
assert fisher_exact([hot, cold_for_as_long]).pvalue > 0.1  # a hot hold is as if it had never been annealed

# %% [markdown]
# Why? At $T_0 = 100$ a flow is one broad bump of variance $\sim T_0$ over both modes. The quench drops it at $\beta =
# 1$ in one step, and it falls into a mode as if it had never been annealed. From there it may find the other one again,
# slowly: without annealing 6 of 8 flows have lost a mode after 2000 steps, and 1 of 8 after 3500. A count is of a step.
# The mixture at that temperature has two components, already parted, which only need to turn. So for a flow the
# temperatures that matter are those around the barrier between the modes, about $R^2/2 = 4.5$, and it should pass them
# gradually.
#
# ## See for yourself
#
# Twelve flows in eight dimensions for each of three schedules, every one with its own start and direction of the modes;
# 1200 of 2000 steps are annealed.

# %%
small = annealvi.Problem(space=annealvi.Space(8))
schedules = {
    "no annealing": annealvi.ScheduleSpec("constant", 1.0),
    "hold at $T_0 = 100$, quench": schedule_within("hold", 100.0, 1200.0),
    "geometric from $T_0 = 10$": schedule_within("geometric", 10.0, 1200.0),
}
training = {"steps": 2000, "seeds": 12, "architecture": Architecture(6, 32), "optimiser": Optimiser(128)}
runs = {name: annealvi.train_flow(replace(small, schedule=spec), **training) for name, spec in schedules.items()}
for name, run in runs.items():
    weights = run.data["mode_weights"].to_numpy()[:, -1, 0]
    kept = weights[~run.outcomes.collapsed]
    words = f"; where both are kept, the first has weight {kept.mean():.2f} ± {kept.std() / np.sqrt(len(kept)):.2f}"
    print(f"{name.replace('$', ''):28s} P(collapse) = {run.outcomes.p:.2f} ± {run.outcomes.stderr:.2f}{words}")

# %%
with style.figure(style.TWO_COLUMNS, 2.5, columns=3, sharex=True, sharey=True) as (figure, panels):
    for panel, (name, run) in zip(panels, runs.items(), strict=True):
        for line, collapsed in zip(run.data["mode_weights"].to_numpy()[:, :, 0], run.outcomes.collapsed, strict=True):
            panel.plot(run.data["step"], line, color=style.LOST if collapsed else style.KEPT, lw=0.8)
        panel.axhline(0.8, **style.REFERENCE)
        panel.set_title(name)
        panel.set_xlabel("step")
    panels[0].set_ylabel(r"weight of the first mode")
    panels[0].set_ylim(-0.04, 1.04)
figure

# %% [markdown]
# *The weight that each flow gives to the first mode while it is trained; the target's, $w^\star = 0.8$, dashed; in red
# the flows that end without one of the modes.*

# %%
_, quench, gradual = (run.outcomes for run in runs.values())
assert quench.p - gradual.p > 2 * np.hypot(quench.stderr, gradual.stderr)

# %% [markdown]
# ## Did it collapse? Do not ask the loss
#
# All diagnostics of the flows that were quenched:

# %%
flow_figure(runs["hold at $T_0 = 100$, quench"].data, np.array(small.target.scales))

# %% [markdown]
# *The flows that were quenched. The reverse effective sample size looks only where the flow is: it comes near one, and
# falls again, with or without the lighter mode. The divergence of a flow that has lost it is no larger than about
# $-\log w^\star = 0.22$. The forward ESS, from samples of the target, is zero then; but it is small, too, for a flow
# that covers both modes and is not yet accurate in the tails. What tells them apart is the share of the target's
# samples at which $q < p^\star/100$: it is the weight of what was lost.*
#
# The medians, of collapsed flows among the quenched ones and of those that were cooled gradually:

# %%
quenched, gradual = (runs[name].data.isel(step=-1) for name in (list(runs)[1], list(runs)[2]))
collapsed = quenched["mode_weights"].to_numpy()[:, 0] > 0.98
names = {"reverse_ess": "reverse ESS", "reverse_kl": "KL(q‖p*)", "forward_ess": "forward ESS", "uncovered": "uncovered"}
for column, name in names.items():
    medians = np.median(quenched[column].to_numpy()[collapsed]), np.median(gradual[column].to_numpy())
    print(f"{name:12s} collapsed {medians[0]:.3f}, gradual {medians[1]:.3f}")

# %% [markdown]
# ## In your own training loop
#
# The schedule is one factor in the loss, $\mathbb E_q[\log q - \beta(\text{step}) \log p^\star]$:

# %%
schedule = annealvi.beta_schedule("geometric", T0=10.0, steps=1500)
print([round(schedule(step), 3) for step in (0, 500, 1000, 1500)])

# %% [markdown]
# Complete programs for normflows, flowjax and plain JAX are in
# [annealing_a_flow_of_your_own.md](annealing_a_flow_of_your_own.md). In short:
#
# * cool gradually, at an even pace per factor of temperature (`geometric`), and the slower the better;
# * begin at the barrier between the modes in units of $\log p^\star$, or up to a few times as hot; hotter needs more
#   time;
#   `annealvi.find_barrier` measures it;
# * follow the path gradient, at a rate that falls: `train_flow` does by default, and with the total derivative or a
#   constant rate
#   the weights end further off;
# * do not quench from far above it, whatever the theory of mixtures says;
# * judge by the modes' weights, or by samples of the target; the loss and the seeds' agreement say nothing.
#
# What stands behind it is limited: RealNVP, two modes (and a few tries with more of them and with the SLIPS benchmark),
# up to 128 dimensions, four to eight flows for each schedule. The weights in 128 dimensions, by estimator and by
# schedule:

# %%
training_figure(stored("weights-128"))

# %% [markdown]
# *Medians and ranges over four flows of the command's default size. The weights are right within a few hundredths with
# path gradients, a rate that falls and gradual cooling, or a hold below the barrier; at a constant rate they go on
# fluctuating; after a quench from far above the barrier, and without annealing, they are still on their way.*
