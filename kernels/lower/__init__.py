"""From the derivation's expressions to what a kernel evaluates: rewrites that keep the value, and averages sorted for
one pass each."""
