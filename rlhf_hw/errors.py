"""Errors that say what is wrong and how to mend it; the command line prints them without a traceback.

Each is also the built-in error that a caller would expect. Raise them where the fault is seen, with file, row
and key in the message, and the remedy.
"""

import difflib
import errno
import os
from collections.abc import Collection

# what pydantic's messages leave out, by its types of errors
MORE = {
    "extra_forbidden": ": there is no such name, take it out",
    "missing": ": give it a value",
    "int_parsing_size": ": give a smaller number",
}


class Explained(Exception):
    """An error whose message is all that a user needs."""


class InputError(Explained, ValueError):
    """A value, file or setting that cannot be used as it is."""


class UnknownName(Explained, KeyError):
    """A name, or a key of a row, that is not there. Unlike KeyError it prints its message as written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RunFailed(Explained, RuntimeError):
    """A notebook, a process or a program that was started did not get to its end."""


def one_line(error: Exception) -> str:
    """What an error says, as one line; of pydantic's findings each with the key it is about."""
    from pydantic import ValidationError

    if isinstance(error, OSError) and error.errno and error.strerror == os.strerror(error.errno):
        remedy = "give another name, or put there what is meant"  # the system's own words name none
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "see who may read and write there (ls -l), or give another name"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "free some space, or choose another place"
        return f"{error.filename or 'output'}: {error.strerror}; {remedy}"
    if not isinstance(error, ValidationError):
        return str(error)
    found = []
    for e in error.errors():
        key, message = ".".join(map(str, e["loc"])), e["msg"] + MORE.get(e["type"], "")
        message = message.removeprefix("Value error, ")  # what comes then is ours, and names its key or keys
        own = e["type"] == "value_error" and (not key or message.startswith(f"{key}: "))
        found.append(message if own else f"{key or 'content'}: {message}")
    return "; ".join(found)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the names closest to it, or that nothing is close.

    Of dotted names the last parts tell more than the long common prefixes, so they are compared too.
    """
    last = name.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if "." in name:
        close += [
            other for other in sorted(known) if other.rsplit(".", 1)[-1] == last and other not in close
        ][:3]
    return (
        f" (did you mean {' or '.join(close)}?)" if close else f" (nothing similar among {len(known)} names)"
    )
