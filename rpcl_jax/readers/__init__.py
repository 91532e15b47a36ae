"""One module per source format; each returns `rpcl_jax.data.dialogue.Dialogue` objects."""
