"""Recipes: grammar, YAML with places, listings."""

from sccs.recipe.grammar import load_recipe
from sccs.recipe.merging import find_recipe, packaged_recipes
from sccs.recipe.recipe import Recipe

__all__ = ["Recipe", "find_recipe", "load_recipe", "packaged_recipes"]
