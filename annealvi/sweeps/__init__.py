"""Grids of results over the numbers of a problem, computed in chunks that survive whatever ends the run.

axis: what varies → sweep: what is computed at each unit of the grid → plan: what it will take → engines: where it runs
→ store: what is finished → run: all of it, into one labelled file.
"""
