"""Programs that some tests need and that no lock file brings."""

import os
import shutil

import pytest


def tool(*names: str, package: str) -> str:
    """The path of the first of these programs that this machine has; ``package``: Debian's name of what holds it.

    Without it the test is skipped, or fails where RETAIL_STREAM_TEST_TOOLS=required, as in CI.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        end = pytest.fail if os.environ.get("RETAIL_STREAM_TEST_TOOLS") == "required" else pytest.skip
        end(f"There is no {names[0]} on the PATH (Debian's package `{package}`).")
    return found
