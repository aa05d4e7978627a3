"""Number work that knows no graph."""
