"""The rules of the derivation: gradients, slopes, the flow and the reduction of averages, one subject a module.

Each exact rule rewrites an expression as another of the same value; an asymptotic rule states its remainder.
"""
