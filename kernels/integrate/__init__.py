"""Trajectories of the derived equations: initial states, and their integration in batches."""
