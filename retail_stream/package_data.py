"""Folders of data that the code reads: `schemas` and `migrations`.

In a checkout they stand at the top, beside this package. A wheel holds them inside it (pyproject.toml).
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder of this name, of the wheel or of the checkout."""
    packaged = _PACKAGE / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
