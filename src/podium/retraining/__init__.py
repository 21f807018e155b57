"""The winner, trained once more: in this process, or on many devices."""
