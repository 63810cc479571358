"""RealNVP flows trained on the tempered reverse KL: target → flow → training → diagnostics → figures.

Needs JAX, equinox and optax, the extra `flows`. Nothing here uses the theory of the mixtures, which is to be compared with it.
"""
