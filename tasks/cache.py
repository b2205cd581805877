"""Reads through the cache, and its upkeep."""
