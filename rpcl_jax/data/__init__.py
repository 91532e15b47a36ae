"""From files to batches of NumPy arrays. Nothing here imports JAX."""
