"""Both sides at the same points: states and parameters, rates, factors between them, limits, digits, identity."""
