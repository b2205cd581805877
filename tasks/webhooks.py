"""Deliveries of events to endpoints elsewhere."""
