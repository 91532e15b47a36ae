"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Bad input: a file, a config field or a folder is not what it should be.

    The message is one line that names the file, the place in it and what to do. `rpcl_jax.main`
    prints it without a traceback and exits with status 1.
    """
