"""Annealing for the user's own training loops: β of each step, adaptive rules, and the barrier that sets T0."""
