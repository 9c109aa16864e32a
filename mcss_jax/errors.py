"""What the person who started a program, or called the library, can put right: told apart from a defect of the code."""


class UserError(ValueError):
    """Settings, files, data, folders, disks: one sentence says what was found, what was expected, what to do.

    The programs print the sentence and end with exit code 1. All other exceptions, but for those of the operating
    system, are defects. It is a ValueError for those who call the library and know of no other kind.
    """


def is_mendable(error: BaseException) -> bool:
    """Whether an error is no defect: a `UserError`, or what the operating system says of a file, a disk, a socket.

    An OSError without a number is a library's own.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno is not None)
