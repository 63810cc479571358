"""Runs of one problem: paths by the ODE and by particles, their cost, and the velocity at one state."""
