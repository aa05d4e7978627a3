"""Scores, mappings of clusters to classes, names, comparison of runs."""
