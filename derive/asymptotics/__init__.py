"""What the theory says in limits, each derived from the closed system."""
