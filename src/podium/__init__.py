"""Podium: from a set of images to a tuned, registered and promotable PyTorch classifier."""
