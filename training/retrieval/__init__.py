"""Retrieval: building a memory from train events, and learning how far to listen to it."""
