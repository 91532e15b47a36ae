"""A run: its config, its folder, and what its commands share."""
