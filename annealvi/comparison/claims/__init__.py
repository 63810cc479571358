"""Somebody's claims: formulas for critical temperatures, exponents, probabilities and fixed points, put to the test.

`reading` reads a claim into an expression and the points at which it is compared, `results` computes what the package
has at these points, and `verdicts` compares the two; `comparing` does so for all claims, and `words` and `figure` show
what was found. `fixed_points` is for claimed states, and `sampled` holds the statistics of a claimed probability.
"""
