"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Bad input: a file, a config field or a folder is not what it should be.

    The message is one line that names the file, the place in it and what to do. Commands print it
    without a traceback and exit with status 1 (`rpcl_jax.command_line`).
    """
