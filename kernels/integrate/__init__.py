"""Compiled systems, the integration of batches of initial states, shooting, and the law of the initial overlaps."""
