"""A model: the four parts of a recipe and what they learned; one field of view in, clusters out; kept in a folder."""
