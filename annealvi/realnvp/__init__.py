"""RealNVP flows trained on the tempered reverse KL: target → flow → training → diagnostics → one run → many schedules →
figures.

Needs JAX, equinox and optax, the extra `flows`. The training knows nothing of the theory of mixtures; `theory` puts
that beside it.
"""
