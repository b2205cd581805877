"""Upkeep of the database itself: old partitions, statistics, bloat, reports."""
