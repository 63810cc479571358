"""Compiled systems, the integration of batches of initial states, and the law of the initial overlaps."""
