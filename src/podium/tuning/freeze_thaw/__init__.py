"""Freeze-thaw search: trials rest after a few epochs, and a model of their curves says which go on (`method: thaw`)."""
