"""RealNVP flows trained on the tempered reverse KL.

The pipeline: target → couplings → training → diagnostics → training_run → schedule_sweep → figures. It needs JAX,
equinox and optax, the extra `flows`. The training knows nothing of the theory of mixtures; `mixture_theory` puts the
theory's result beside the flows'.
"""
