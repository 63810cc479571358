"""Numerical kernels of annealvi.

lowering → printer → codegen → module_cache   an OdeSystem becomes a Python module for Numba, on the CPU and on CUDA
quadrature, proxy, tables   averages over one normal variable to a requested tolerance, with the error that was measured
lattice*               averages over several variables, a χ² one among them: steps follow from the state at run time
tableau, integrator    adaptive Runge–Kutta over batches of initial states
ensembles              the exact law of the initial overlaps in any dimension
random_stream, particle_step, particles   the d-dimensional simulation; it knows densities and sampling only
projection             the same in law, with its particles drawn in the span of the centres
adaptive_schedules     the same under AdaAnn or the effective-sample-size rule
threads, halting, stages   how long work is shared out, stopped, and told of
kl_grid                the reverse KL and its gradient by quadrature on a grid: a route that imports nothing of the rest
"""

IS_ANNEALVI = True
"""Another distribution also calls itself `kernels`; `annealvi` looks for this mark."""
