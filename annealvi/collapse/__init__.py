"""The probability of mode collapse: by the separatrix formula, by ensembles of the ODE, and by particles."""
