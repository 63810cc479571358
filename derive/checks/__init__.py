"""Whether a step holds: its meaning in numbers to 30 digits, and mutants that a sound check rejects."""
