"""Checks of messages by the facts they name, not by their wording."""

import contextlib
from collections.abc import Iterator

import pytest

from edvr_jax.errors import InputError


def check_message(message: str, *facts: object) -> None:
    """Check that a message is one line that names every fact.

    Args:
        message: What a user reads.
        facts: Paths, numbers, options, names of fields; compared as text.
    """
    assert message.count("\n") == message.endswith("\n"), message
    missing = [str(fact) for fact in facts if str(fact) not in message]
    assert not missing, f"{missing} not in: {message}"


@contextlib.contextmanager
def refused(
    *facts: object, error: type[Exception] = InputError
) -> Iterator[pytest.ExceptionInfo]:
    """Expect an exception whose message is one line that names every fact."""
    with pytest.raises(error) as caught:
        yield caught
    check_message(str(caught.value), *facts)
