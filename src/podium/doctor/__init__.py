"""The environment check behind `podium doctor`: what would fail on this machine and in this project, and its remedy."""
