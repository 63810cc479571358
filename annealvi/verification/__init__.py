"""The checks of `annealvi verify`, one subject per module; each function yields `Check` values and prints nothing.

A function judges the derivation or kernel that it is given, and derives nothing in its place unless the check's name
says so. A check that compared nothing fails.
"""
