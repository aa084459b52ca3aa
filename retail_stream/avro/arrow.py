"""NumPy buffers as polars series, without a copy and without a Python object per value.

By Arrow's C data interface, a public standard: two structs that name a type and its buffers, handed over in capsules by
`__arrow_c_array__`. Text is a column of views (16 bytes each: the length, then the text itself up to 12 bytes, else its
first four bytes, a buffer's number and a place in it), so that text stays in the bytes that came from Kafka.
"""

import ctypes
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Buffer = npt.NDArray[Any]

_NULLABLE = 2


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


_ReleaseSchema = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))
_ReleaseArray = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseArray),
    ("private_data", ctypes.c_void_p),
]
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype = ctypes.py_object
_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

#: what polars still reads, by the number in private_data
_held: dict[int, tuple[Any, ...]] = {}
_numbers = count(1)


def _forget_schema(schema: Any) -> None:
    schema.contents.release = _ReleaseSchema()


def _forget_array(array: Any) -> None:
    _held.pop(array.contents.private_data, None)
    array.contents.release = _ReleaseArray()


_release_schema, _release_array = _ReleaseSchema(_forget_schema), _ReleaseArray(_forget_array)


class _Handover:
    """One array on its way to polars, which releases both structs."""

    def __init__(self, arrow_format: bytes, length: int, nulls: int, buffers: Sequence[Buffer | None]) -> None:
        self._schema, self._array = _Schema(), _Array()
        self._schema.format, self._schema.name, self._schema.flags = arrow_format, b"", _NULLABLE
        self._schema.release = _release_schema
        pointers = (ctypes.c_void_p * len(buffers))(*(None if b is None else b.ctypes.data for b in buffers))
        self._array.length, self._array.null_count, self._array.n_buffers = length, nulls, len(buffers)
        self._array.buffers = ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p))
        self._array.release, self._array.private_data = _release_array, next(_numbers)
        self._kept = self._array, pointers, buffers

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        _held[self._array.private_data] = self._kept
        return (
            _capsule(ctypes.addressof(self._schema), b"arrow_schema", None),
            _capsule(ctypes.addressof(self._array), b"arrow_array", None),
        )


def series(name: str, arrow_format: bytes, values: Buffer, valid: Buffer | None, *more: Buffer) -> pl.Series:
    """A series over ``values``: one item (or one row) each.

    ``arrow_format``: Arrow's letters for the type, such as ``l`` for int64. ``valid``: flags 0 and 1, None where no
    value is missing. The arrays must not be changed afterwards.
    """
    nulls = 0 if valid is None else len(valid) - int(np.count_nonzero(valid))
    bits = np.packbits(valid, bitorder="little") if valid is not None and nulls else None
    if not len(values):
        # An empty buffer has no address.
        values = np.zeros(2, np.int64)
        return pl.Series(_Handover(arrow_format, 0, 0, (None, values, *more))).alias(name)
    return pl.Series(_Handover(arrow_format, len(values), nulls, (bits, values, *more))).alias(name)


def views(name: str, cells: Buffer, valid: Buffer | None, data: Sequence[Buffer], *, text: bool) -> pl.Series:
    """A series over views: ``cells`` (n, 2) int64, ``data`` the buffers they point into.

    ``text``: String, and then every view is UTF-8, which is not checked again; else Binary.
    """
    sizes = np.array([len(d) for d in data], np.int64)
    return series(name, b"vu" if text else b"vz", cells, valid, *data, sizes)
