"""Many trainings at once: which settings to try next, which to stop early, and which was best."""
