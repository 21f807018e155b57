"""Drift: a few numbers of each image and of each answer, sketched by windows, and compared with the training set."""
