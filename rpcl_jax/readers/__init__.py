"""One module per source format; each returns `rpcl_jax.data.dialogue.Dialogue` objects.

All functions that read raise InputError where a file is missing, malformed or holds an invalid
conversation. It lists all faults at once.
"""
