"""The particle simulation on CUDA. Only a run on CUDA imports it, because numba.cuda is optional and slow to load.

One block of threads computes the estimates of one component of one replica. The block takes the component's particles
one tile at a time. A tile is the set of particles between two rounds of sums, and takes four stages:

1. The threads draw the tile's particles. A thread draws four coordinates of a particle at once, keeps them, and writes
   their contributions to the dot products with the centres into shared memory. `BlockShape.span` threads share each
   particle, and the groups of threads in the block work on different particles.
2. For each dot product one thread adds up the contributions.
3. For each particle one thread finds the pulls of the centres.
4. Each thread adds the coordinates that it keeps, weighted by the pulls, to its own coordinates of the gradient.

So no normal is drawn twice, every sum has a fixed order, and memory does not grow with the dimension times the
particles.

Modules: `blocks` (how a block shares out its work, and its sums), `tiles` (the four stages), `estimate` and `moves`
(the kernels of one step), `forward` (the part of the forward KL), `replicas` (the state on the device, and the
launches), `projection` (particles in the span of the centres), `covariances` (mixtures with covariances).
"""
