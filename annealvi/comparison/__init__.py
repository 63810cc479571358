"""Somebody's equations beside the derived ones: equal, equal up to a unit or in a limit, or different, and where."""
