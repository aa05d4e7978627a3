"""A model: the four parts of a recipe and what they learned; maps a field of view to clusters; stored in a folder."""
