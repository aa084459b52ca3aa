"""The waiting that all other tests rely on: it ends as soon as it may, and a failure says what was waited for."""

import pytest

from tests.harness.eventually import eventually


def test_it_returns_the_first_true_value():
    found = iter([0, "", [], "there", "never asked for"])
    assert eventually(lambda: next(found), "something is there", every_s=0) == "there"
    assert next(found) == "never asked for"


def test_it_fails_with_what_there_is_instead():
    with pytest.raises(AssertionError, match=r"^not within 0\.01 s: 3 of 5$"):
        eventually(lambda: False, lambda: "3 of 5", 0.01, every_s=0)


def test_an_exception_ends_it_unless_it_means_not_yet():
    tries = iter([ConnectionError, ConnectionError, None])

    def condition() -> bool:
        if error := next(tries):
            raise error
        return True

    with pytest.raises(ConnectionError):
        eventually(condition, "it answers")
    assert eventually(condition, "it answers", every_s=0, retry_on=ConnectionError)
