"""What each design choice is worth: `python -m benchmarks.studies.leads --help`."""
