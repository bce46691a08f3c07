"""Judging trained networks and served edits: metrics, pictures and the report."""
