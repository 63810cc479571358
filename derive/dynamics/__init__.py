"""The derivation in its order: from the objective to the closed system of the summary statistics."""
