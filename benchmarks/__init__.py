"""Tables, timings and studies: `python -m benchmarks.tables table1`, from the root of the checkout. Not installed."""
