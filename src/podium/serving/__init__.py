"""Predictions of a registered model: for many files, and over HTTP."""
