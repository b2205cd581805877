"""Thin Celery tasks, one module an area: validate, call one routine, report."""
