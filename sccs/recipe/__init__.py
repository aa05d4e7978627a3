"""Recipes: grammar, YAML with places, listings."""

from sccs.recipe.grammar import Recipe, find_recipe, load_recipe, packaged_recipes

__all__ = ["Recipe", "find_recipe", "load_recipe", "packaged_recipes"]
