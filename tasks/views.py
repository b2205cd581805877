"""Materialized views, refreshed when they are stale."""
