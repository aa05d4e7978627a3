"""`sccs init`: a recipe for images without labels, from a look at them and from one field of view that is measured."""
