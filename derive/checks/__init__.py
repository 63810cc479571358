"""Independent checks of a derivation: every step in numbers, negative controls, and the velocity at one state."""
