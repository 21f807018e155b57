"""The sections of params.yaml: fields, their bounds and what they mean (`model` and `train` are in recipe)."""
