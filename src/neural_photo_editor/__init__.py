"""Neural Photo Editor: masked diffusion edits of portraits, from training to serving."""

__version__ = "0.1.0"
