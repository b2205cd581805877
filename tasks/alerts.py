"""Alerts of low stock: found, told, escalated."""
