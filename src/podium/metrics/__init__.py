"""What answers on sealed images are worth: numbers, plots, and the worst of them as pictures."""
