"""What choices are worth: `python -m benchmarks.studies.leads --help`."""
