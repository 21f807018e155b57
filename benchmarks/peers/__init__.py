"""What Podium is compared with: each a program of its own, run as `python -m peers.<name>` beside the benchmarks."""
