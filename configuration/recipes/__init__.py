"""Recipes as YAML files, one per file; see `configuration/recipe.py` for their fields."""
