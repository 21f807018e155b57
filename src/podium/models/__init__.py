"""The networks that `model.name` names, each in a file of its own; build puts them together."""
