"""MLflow as a true image of what was done: the store, the runs, the mirror of a study and its repair."""
