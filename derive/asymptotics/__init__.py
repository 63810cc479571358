"""Limits of the theory, each derived from the closed system."""
