"""The search: one driver that owns the study, workers that only train."""
