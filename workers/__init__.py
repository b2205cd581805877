"""Ordermill's runtime: everything between a Celery message and a routine in PostgreSQL. No business rule lives here."""
