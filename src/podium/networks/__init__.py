"""The networks that `model.name` names, each in a file of its own; podium.model puts them together."""
