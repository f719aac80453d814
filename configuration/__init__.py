"""What a user edits: recipes and the data schema."""
