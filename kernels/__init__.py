"""Numerical kernels of annealvi, from the derived system to integrated trajectories, and the particle simulation.

The rooms, in the order in which they are used:

lower       the expressions of the derivation as a kernel evaluates them, and the analysis of a system's averages
averages    the tables and lattice rules behind averages, with the errors that were measured
generate    from an analysed system and a schedule to the source of a kernel; it contains the texts of templates/
integrate   compiled systems, adaptive Runge–Kutta over batches, and the exact law of the initial overlaps
particles   the d-dimensional simulation, and the KL on a grid: densities and sampling only, nothing of the derivation
machine     devices, threads, the cache of compiled code, and how work that takes long is stopped and reported
"""

IS_ANNEALVI = True
"""Other packages are called `kernels` too; `annealvi` recognises this one by this mark."""
