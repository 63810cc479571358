"""From the expressions of the derivation to those that a kernel evaluates.

The modules hold the rewrites, each of which keeps the value of an expression, and the analysis of averages.
"""
