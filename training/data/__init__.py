"""Raw files become prepared data sets; prepared data sets become token sequences."""
