"""The closed rates of two components with learned variances in one coordinate, typed by hand, without derived code.

Component i has the coordinate X_i and the variance Σ_i in it, and N(a_i, 1) outside; a mode has X*_k, variance one, and
N(0, 1) outside. Outside, the components differ along one line, so that averages run over two coordinates. They are sums
over a grid, and responsibilities are quotients of densities. On the sphere of radius R, in the metric "log",

    f_i = −Σ_j (y_ij + r_ij (X_i − X_j))/Σ_j + β (X_i − Σ_k r*_ik X*_k),
    B_i = −Σ_j (yy_ij + y_ij (X_i − X_j))/Σ_j + β (Σ_i − Σ_k y*_ik X*_k),
    v_i = Σ_j r_ij (a_i − a_j) − β a_i                           outside,
    dX_i/dt = −w_i f_i + μ_i X_i,  dΣ_i/dt = −2 w_i B_i Σ_i,  μ_i = w_i (f_i X_i − v_i·a_i)/R²,

with r_ij = E_i[ρ_j], y_ij = E_i[ρ_j (x − X_i)] and yy_ij = E_i[ρ_j (x − X_i)²].
"""

from __future__ import annotations

import numpy as np


def rates(
    X: np.ndarray, Q: np.ndarray, S: np.ndarray, w: np.ndarray, X_star: np.ndarray, w_star: np.ndarray, beta: float
) -> np.ndarray:
    """dX_1, dX_2, dQ_12, dΣ_1, dΣ_2; Q is the Gram matrix (2, 2) of whole means, and Q_ii = R²."""
    outside = Q - np.outer(X, X)
    apart = np.sqrt(outside[0, 0] + outside[1, 1] - 2 * outside[0, 1])
    line = np.array([0.0, apart])  # the places of the two components on their line outside
    z, t = np.meshgrid(*[np.linspace(-12, 12, 481)] * 2, indexing="ij")
    normal = np.exp(-(z**2 + t**2) / 2)
    normal /= normal.sum()

    f, B, r = np.empty(2), np.empty(2), np.empty((2, 2))
    for i in range(2):
        y, x, u = np.sqrt(S[i]) * z, X[i] + np.sqrt(S[i]) * z, line[i] + t
        q = np.array(
            [w[j] / np.sqrt(S[j]) * np.exp(-((x - X[j]) ** 2) / (2 * S[j]) - (u - line[j]) ** 2 / 2) for j in range(2)]
        )
        p = np.array([w_star[k] * np.exp(-((x - X_star[k]) ** 2) / 2) for k in range(len(w_star))])
        rho, star = q / q.sum(axis=0), p / p.sum(axis=0)
        r[i], yi, yyi = ((rho * y**n * normal).sum(axis=(1, 2)) for n in range(3))
        r_star, y_star = ((star * y**n * normal).sum(axis=(1, 2)) for n in range(2))
        f[i] = -np.sum((yi + r[i] * (X[i] - X)) / S) + beta * (X[i] - r_star @ X_star)
        B[i] = -np.sum((yyi + yi * (X[i] - X)) / S) + beta * (S[i] - y_star @ X_star)

    # v_i·a_j outside, whose first part is Σ_l r_il (a_i − a_l)·a_j.
    along = np.array(
        [[r[i] @ (outside[i, j] - outside[:, j]) - beta * outside[i, j] for j in range(2)] for i in (0, 1)]
    )
    mu = w * (f * X - np.diagonal(along)) / np.diagonal(Q)
    dX = -w * f + mu * X
    within = -np.outer(w * f, X)
    one_sided = within + w[:, None] * along + mu[:, None] * Q
    return np.array([*dX, one_sided[0, 1] + one_sided[1, 0], *(-2 * w * B * S)])
