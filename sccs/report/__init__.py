"""What a person sees of a run: figures and the report page."""
