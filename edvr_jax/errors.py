"""The exceptions that mean "the user can fix this"."""


class InputError(ValueError):
    """Bad input: a file, field or shape that the user can correct.

    The message is one line that names the file, field or shape and says what to
    do. The command line prints it without a traceback and exits with code 2.
    """


class ResourceError(InputError):
    """The machine lacks what the work needs; with more of it, the work can go on."""


class OutputError(ResourceError):
    """The disk, or a limit on it, refuses what is to be written."""
