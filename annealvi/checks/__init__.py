"""What `annealvi verify` checks, one subject per module; each function yields `Check` values and prints nothing."""
