"""The numbers behind Gaussian averages: quadrature, proxies, lattice rules, and the tables that kernels read."""
