"""From the expressions of the derivation to those that a kernel evaluates: rewrites that keep the value, and the
analysis of averages."""
