"""`sccs init`: inspect images without labels, time one field of view, and write a recipe."""
