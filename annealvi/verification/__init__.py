"""What `annealvi verify` checks, one subject per module; each function yields `Check` values and prints nothing.

A function judges what it is given, derives nothing in its place unless the check's name says so, and fails where
nothing was compared.
"""
