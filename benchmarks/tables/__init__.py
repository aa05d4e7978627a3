"""The tables and figures of the paper with our numbers: `python -m benchmarks.tables --help`."""
