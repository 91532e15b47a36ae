"""One module per source format; each yields `rpcl_jax.data.dialogue.Dialogue`."""
