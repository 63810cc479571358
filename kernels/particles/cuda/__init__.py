"""The particle simulation on CUDA; each of the modules imports numba.cuda, which is slow to load and optional."""
