"""How long things take and what they cost: `python -m benchmarks.speed.timing --help`."""
