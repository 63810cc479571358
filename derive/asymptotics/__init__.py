"""Limits of the theory, growth rates and linear stability, each derived from the closed system."""
