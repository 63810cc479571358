"""What a user of other libraries would write for the same work, by hand and without this package.

Each function takes what `work` hands out, runs once to compile, and returns seconds and results. A library that is not
installed raises ImportError; `pip install "annealvi[bench]"` has them all.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter

import numpy as np
from scipy.integrate import solve_ivp

R, W_STAR, T0, T_ANNEAL, T_END = 3.0, 0.8, 30.0, 288.0, 180.0
R2, H = R * R, 0.5 * np.log(W_STAR / (1 - W_STAR))


def normal_rule(nodes):
    """Nodes and weights of a trapezoidal rule for the normal law."""
    z = np.linspace(-8.5, 8.5, nodes)
    weights = np.exp(-z * z / 2)
    return z, weights / weights.sum()


Z, WEIGHTS = normal_rule(97)
"""The rule of the peers.

It is good to about 1e-8, since tanh(R z) has poles at a distance of π/6 from the real line.
"""
FINE = normal_rule(385)
"""The rule of the reference, good to rounding."""


def velocity(t, y, rule=(Z, WEIGHTS)):
    """dy/dt of (m_1, m_2, s) under the study's exponential schedule, for `solve_ivp`."""
    (m1, m2, s), (z, weights) = y, rule
    beta, gap = 1 / (1 + (T0 - 1) * np.exp(-t / T_ANNEAL)), max(1 - s, 0.0)
    f1, f2 = (np.sum(weights * np.tanh(R2 * m + R * z + H)) for m in (m1, m2))
    g = np.sum(weights * 0.5 * (1 - np.tanh(0.5 * (R2 * gap + np.sqrt(2 * R2 * gap) * z))))
    pull = beta * (f1 * (m2 - m1 * s) + f2 * (m1 - m2 * s))
    return [
        0.5 * (beta * f1 * (1 - m1**2) - g * (m2 - s * m1)),
        0.5 * (beta * f2 * (1 - m2**2) - g * (m1 - s * m2)),
        0.5 * (pull - 2 * g * (1 - s * s)),
    ]


def reference(starts):
    """The final states (N, 3) to 1e-12."""
    fine = partial(velocity, rule=FINE)
    return np.array([solve_ivp(fine, (0, T_END), y, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1] for y in starts])


def scipy(starts, method):
    """SciPy's solve_ivp, one trajectory after the other."""
    start = perf_counter()
    final = np.array([solve_ivp(velocity, (0, T_END), y, method=method, rtol=1e-7, atol=1e-9).y[:, -1] for y in starts])
    return perf_counter() - start, final


def diffrax(starts, solver):
    """diffrax's adaptive solver, vectorised over the states, on JAX's default device."""
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    z, w = jnp.array(Z), jnp.array(WEIGHTS)

    def field(t, y, _):
        m1, m2, s = y
        beta, gap = 1 / (1 + (T0 - 1) * jnp.exp(-t / T_ANNEAL)), jnp.maximum(1 - s, 1e-14)
        f1, f2 = jnp.sum(w * jnp.tanh(R2 * m1 + R * z + H)), jnp.sum(w * jnp.tanh(R2 * m2 + R * z + H))
        g = jnp.sum(w * jax.nn.sigmoid(-(R2 * gap + jnp.sqrt(2 * R2 * gap) * z)))
        pull = beta * (f1 * (m2 - m1 * s) + f2 * (m1 - m2 * s))
        return jnp.array(
            [
                0.5 * (beta * f1 * (1 - m1**2) - g * (m2 - s * m1)),
                0.5 * (beta * f2 * (1 - m2**2) - g * (m1 - s * m2)),
                0.5 * (pull - 2 * g * (1 - s * s)),
            ]
        )

    control = dfx.PIDController(rtol=1e-7, atol=1e-9)

    def one(y):
        terms, ends = dfx.ODETerm(field), dfx.SaveAt(t1=True)
        return dfx.diffeqsolve(
            terms,
            getattr(dfx, solver)(),
            0.0,
            T_END,
            0.01,
            y,
            max_steps=100_000,
            stepsize_controller=control,
            saveat=ends,
        ).ys[0]

    solve = jax.jit(jax.vmap(one))
    solve(starts).block_until_ready()
    start = perf_counter()
    final = solve(starts).block_until_ready()
    return perf_counter() - start, np.array(final)


def learned_weights(jnp, jax):
    """The vector field of (m_1, m_2, s, w_1, w_2) at an inverse temperature, with averages on the nodes of `Z`."""
    z, weights = jnp.array(Z), jnp.array(WEIGHTS)
    softplus, sigmoid = jax.nn.softplus, jax.nn.sigmoid

    def field(beta, y):
        m, s, w = y[:2], y[2], y[3:]
        gap = jnp.maximum(1 - s, 1e-14)
        target = 2 * R2 * m[:, None] + 2 * R * z + 2 * H
        pull = jnp.tanh(target / 2) @ weights
        other = (jnp.log(w[::-1] / w) - R2 * gap)[:, None] + jnp.sqrt(2 * R2 * gap) * z
        push = sigmoid(other) @ weights
        energy = R2 * beta * m - beta * softplus(target) @ weights + softplus(other) @ weights + jnp.log(w)
        mean = energy @ w
        theta = -w * (energy - mean)
        return jnp.array(
            [
                w[0] * (beta * pull[0] * (1 - m[0] ** 2) - push[0] * (m[1] - s * m[0])),
                w[1] * (beta * pull[1] * (1 - m[1] ** 2) - push[1] * (m[0] - s * m[1])),
                beta * (w[0] * pull[0] * (m[1] - m[0] * s) + w[1] * pull[1] * (m[0] - m[1] * s))
                - (w @ push) * (1 - s * s),
                *(w * (theta - theta @ w)),
            ]
        )

    return field


PLANE = 2 * np.pi * np.arange(3) / 3
MODES, MODE_WEIGHTS = R * np.stack([np.cos(PLANE), np.sin(PLANE)], 1), np.array([0.5, 0.3, 0.2])


def simplex(jnp, jax):
    """The vector field of three unit vectors (3, 5) whose first two entries are those in the plane of the modes.

    Shares of modes, and of components, are averaged over two normal variables on a grid of 81 × 81 nodes.
    """
    z, weights = normal_rule(81)
    z = jnp.stack([a.ravel() for a in np.meshgrid(z, z)])
    weights = jnp.array(np.multiply.outer(weights, weights).ravel())
    modes, log_weights = jnp.array(MODES), jnp.log(jnp.array(MODE_WEIGHTS))

    def shares(logits):
        return jax.nn.softmax(logits, 0) @ weights

    def of_components(means, i):
        others = jnp.array([n for n in range(3) if n != i])
        apart = R * (means[others] - means[i])
        gram = apart @ apart.T
        # The Cholesky factor of the two differences, also where they are parallel.
        first = jnp.sqrt(jnp.maximum(gram[0, 0], 1e-14))
        along = gram[0, 1] / first
        rest = jnp.sqrt(jnp.maximum(gram[1, 1] - along**2, 1e-14))
        logits = jnp.stack([first * z[0] - gram[0, 0] / 2, along * z[0] + rest * z[1] - gram[1, 1] / 2])
        found = shares(jnp.concatenate([jnp.zeros((1, logits.shape[1])), logits]))
        return jnp.zeros(3).at[i].set(found[0]).at[others].set(found[1:])

    def field(beta, y):
        means = y.reshape(3, 5)
        # Where the components repel one another, a tangential field alone does not keep the vectors at length one.
        means = means / jnp.linalg.norm(means, axis=1, keepdims=True)
        forces = []
        for i in range(3):
            logits = modes @ (R * means[i, :2, None] + z) + (log_weights - R2 / 2)[:, None]
            pull = jnp.zeros(5).at[:2].set(shares(logits) @ modes / R)
            force = (beta * pull - of_components(means, i) @ means) / 3
            forces.append(force - (force @ means[i]) * means[i])
        return jnp.concatenate(forces)

    return field


def mixture(field_of, starts, settings, t_end, rtol=1e-6):
    """Seconds and final states of a mixture by diffrax's Dopri8, vectorised, under the schedule (T0, t0)."""
    import diffrax as dfx
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    field = field_of(jnp, jax)
    t_hot, t_schedule = settings

    def velocity(t, y, _):
        return field(1 / (1 + (t_hot - 1) * jnp.exp(-t / t_schedule)), y)

    def one(y):
        return dfx.diffeqsolve(
            dfx.ODETerm(velocity),
            dfx.Dopri8(),
            0.0,
            t_end,
            0.01,
            y,
            max_steps=100_000,
            stepsize_controller=dfx.PIDController(rtol=rtol, atol=rtol / 100),
            saveat=dfx.SaveAt(t1=True),
        ).ys[0]

    solve = jax.jit(jax.vmap(one))
    compiled = solve.lower(starts).compile()
    start = perf_counter()
    final = compiled(starts).block_until_ready()
    return perf_counter() - start, np.array(final)


def heyoka(starts, tol):
    """heyoka's adaptive Taylor integrator in batch mode, as an ensemble over both cores."""
    import heyoka as hy

    m1, m2, s = hy.make_vars("m1", "m2", "s")
    beta, gap = 1.0 / (1.0 + (T0 - 1) * hy.exp(-hy.time / T_ANNEAL)), 1.0 - s
    f1, f2 = (
        hy.sum([float(w) * hy.tanh(R2 * m + (R * float(z) + H)) for w, z in zip(WEIGHTS, Z, strict=True)])
        for m in (m1, m2)
    )
    width = hy.sqrt(2 * R2 * gap + 1e-14)
    g = hy.sum([float(w) * hy.sigmoid(-(R2 * gap + width * float(z))) for w, z in zip(WEIGHTS, Z, strict=True)])
    system = [
        (m1, 0.5 * (beta * f1 * (1.0 - m1**2) - g * (m2 - s * m1))),
        (m2, 0.5 * (beta * f2 * (1.0 - m2**2) - g * (m1 - s * m2))),
        (s, 0.5 * (beta * (f1 * (m2 - m1 * s) + f2 * (m1 - m2 * s)) - 2.0 * g * (1.0 - s * s))),
    ]
    lanes = hy.recommended_simd_size()
    integrator = hy.taylor_adaptive_batch(
        system, np.zeros((3, lanes)), time=np.zeros(lanes), tol=tol, compact_mode=True
    )
    batches = len(starts) // lanes

    def begin(batch, i):
        batch.set_time(0.0)
        batch.state[:] = starts[i * lanes : (i + 1) * lanes].T
        return batch

    start = perf_counter()
    runs = hy.ensemble_propagate_until_batch(integrator, T_END, batches, begin)
    seconds = perf_counter() - start
    return seconds, np.concatenate([(r[0] if isinstance(r, tuple) else r).state.T for r in runs])


ENSEMBLES = {
    "SciPy LSODA": (partial(scipy, method="LSODA"), 48),
    "SciPy DOP853": (partial(scipy, method="DOP853"), 48),
    "diffrax Tsit5": (partial(diffrax, solver="Tsit5"), None),
    "diffrax Dopri8": (partial(diffrax, solver="Dopri8"), None),
    "heyoka, tol 1e-6": (partial(heyoka, tol=1e-6), 256),
}
"""Each peer of the ensemble, and the number of trajectories that suffice to time it; None stands for all."""


def jax_particles(replicas, particles, d, steps, dt=0.02, inverse_temperature=0.1, repeats=5):
    """Particle coordinates per second of the stochastic gradient flow in JAX, and JAX's device.

    The flow runs in float32, and the rate is that of the median time of `repeats` runs.
    """
    import jax
    import jax.numpy as jnp

    weights, direction = jnp.array([0.5, 0.5], jnp.float32), jnp.zeros(d, jnp.float32).at[0].set(1.0)

    def step(mu, key):
        x = R * mu[:, None, :] + jax.random.normal(key, (2, particles, d), jnp.float32)
        responsibilities = jax.nn.softmax(R * (x @ mu.T) + jnp.log(weights), -1)
        score_q = -x + R * responsibilities @ mu
        score_p = -x + R * jnp.tanh(R * (x @ direction) + jnp.float32(H))[..., None] * direction
        gradient = weights[:, None] * R * (score_q - inverse_temperature * score_p).mean(1)
        mu = mu - dt * (gradient - (gradient * mu).sum(-1, keepdims=True) * mu)
        return mu / jnp.linalg.norm(mu, axis=-1, keepdims=True)

    @jax.jit
    def run(mu, key):
        keys = jax.random.split(key, steps)
        return jax.lax.scan(lambda m, k: (jax.vmap(step)(m, jax.random.split(k, replicas)), None), mu, keys)[0]

    start = jax.random.normal(jax.random.key(0), (replicas, 2, d), jnp.float32)
    start /= jnp.linalg.norm(start, axis=-1, keepdims=True)
    run(start, jax.random.key(1)).block_until_ready()
    seconds = []
    for seed in range(repeats):
        began = perf_counter()
        run(start, jax.random.key(seed)).block_until_ready()
        seconds.append(perf_counter() - began)
    return replicas * 2 * particles * d * steps / float(np.median(seconds)), jax.default_backend()
