"""The model, complete by itself: it travels to the Hub as remote code."""
