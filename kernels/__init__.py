"""Numerical kernels of annealvi.

lowering → printer → codegen → module_cache   an OdeSystem becomes a Python module for Numba, on the CPU and on CUDA
quadrature, proxy      Gaussian expectations to a requested tolerance, with a certificate
tableau, integrator    adaptive Runge–Kutta over batches of initial states
ensembles              the exact law of the initial overlaps in any dimension
random_stream, particle_step, particles   the d-dimensional simulation; it knows densities and sampling only
kl_grid                the reverse KL and its gradient by quadrature on a grid: a route that shares nothing with the rest
"""

IS_ANNEALVI = True
"""Another distribution also calls itself `kernels`; the command line looks for this mark."""
