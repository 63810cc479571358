"""Grids of results over the numbers of a problem, computed in chunks that survive whatever ends the run.

The modules in the order of a run:

* `keys`, `axis`: the numbers of the problem that vary, and their values.
* `sweep`: the interface of a sweep, which computes numbered units (rows of a map, points of a grid, cells of flows).
* `pilot`, `plan`: the time and the memory that a sweep will take.
* `engines`, `on_dask`: this process, other processes, or a cluster, where chunks of units are computed.
* `store`, `provenance`: the folder of finished chunks, and the versions that decide their digits.
* `result_file`, `running`: the labelled result file, and the whole run from plan to result.
"""
