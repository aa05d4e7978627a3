"""Image formats, one file each; `sccs.data.readers` chooses among them."""
