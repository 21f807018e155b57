"""What would fail on this machine and in this project, found before it does: `podium doctor`."""
