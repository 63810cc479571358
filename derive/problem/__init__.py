"""What a run is about: problems and their files, schedules, and the formulas that a user writes."""
