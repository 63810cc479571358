"""Gaussian averages in numbers: quadrature, proxies, lattice rules and the tables that kernels read."""
