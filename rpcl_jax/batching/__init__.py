"""From dialogues to arrays of fixed shape. Nothing here imports JAX."""
