"""The painter behind `data/synthetic_portraits`: NumPy only, one module per part of a portrait."""
