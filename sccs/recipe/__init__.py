"""Recipes: grammar, YAML with places, listings."""
