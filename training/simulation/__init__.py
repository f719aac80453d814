"""A built-in world of users and items whose truth is known."""
