"""What the user sees of a run: figures and the report page."""
