"""Numerical kernels of annealvi, room by room in the order in which they are used:

lower       expressions of the derivation → what a kernel evaluates; averages recognised and sorted for one pass each
generate    an OdeSystem and a schedule → the source of one module, for the CPU and for CUDA; templates/ is copied into
each averages    averages over one or several normal variables and a χ²: tables and lattice rules, with the errors that
were measured integrate   adaptive Runge–Kutta over batches of initial states, and the exact law of the initial overlaps
particles   the d-dimensional simulation, and the KL on a grid: densities and sampling only, nothing of the derivation
machine     devices, threads, the cache of compiled code, how long work is stopped and told of
"""

IS_ANNEALVI = True
"""Another distribution also calls itself `kernels`; `annealvi` looks for this mark."""
