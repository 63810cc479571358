"""Grids of results over the numbers of a problem, computed in chunks that survive whatever ends the run.

The modules in the order of a run: `keys` and `axis` say what varies, `sweep` what is computed at each unit of the grid,
`pilot` and `plan` what it will take, `engines` and `on_dask` where it runs, `store` and `provenance` keep what is
finished, `result_file` writes it, and `running` does all of this, into one labelled file.
"""
