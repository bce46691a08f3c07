"""Trained networks as files: specification, export, load, registry and serving bundle."""
