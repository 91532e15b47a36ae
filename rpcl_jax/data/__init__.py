"""Dialogues, their features and corpus statistics. Nothing here imports JAX."""
