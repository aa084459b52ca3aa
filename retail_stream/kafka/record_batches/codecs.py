"""Kafka's five codecs. Decompression stops at a limit, so a few kilobytes cannot fill the memory."""

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import TypeAlias

import cramjam
import lz4.frame
import numpy as np

from retail_stream.kafka.record_batches.errors import Malformed, TooLarge

Bytes: TypeAlias = bytes | bytearray | memoryview


class Codec(IntEnum):
    """The number in the lowest three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


# Java's snappy library frames its blocks: this magic, version and compatible version (4 bytes each, big-endian), then
# blocks of raw snappy, each behind its size. librdkafka writes one raw block without a frame.
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_SIZE = Struct(">i")


def decompress(codec: int, data: Bytes, limit: int) -> Bytes:
    """Decompressed `data`; of codec 0 `data` itself.

    Raises:
        TooLarge: the result is larger than `limit` bytes.
        Malformed: `data` is not of that codec, is cut off, or the codec is unknown.
    """
    if codec == Codec.NONE:
        return data
    try:
        reader = _READERS[codec]
    except KeyError:
        raise Malformed(f"its codec {codec} is unknown") from None
    try:
        return reader(data, limit)
    except OverflowError:
        raise TooLarge(limit) from None
    except (zlib.error, cramjam.DecompressionError, RuntimeError, EOFError) as error:
        raise Malformed(f"it is not valid {Codec(codec).name.lower()} ({error})") from error


def compress_lz4(data: Bytes | np.ndarray) -> bytes:
    """An LZ4 frame as Kafka's readers want it: independent blocks. Level 0 is the cheapest; the lock is released."""
    return bytes(
        lz4.frame.compress(
            data,
            compression_level=0,
            block_linked=False,
            block_size=lz4.frame.BLOCKSIZE_MAX256KB,
            store_size=False,
        )
    )


def _gzip(data: Bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    rest: Bytes = data
    while rest or not parts:  # a file may have several members
        reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
        parts.append(reader.decompress(rest, limit + 1))
        limit = _left(limit, len(parts[-1]))
        if not reader.eof:
            raise EOFError("it is cut off")
        rest = reader.unused_data
    return b"".join(parts)


def _lz4(data: Bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    rest: Bytes = data
    while rest or not parts:
        reader = lz4.frame.LZ4FrameDecompressor()
        parts.append(reader.decompress(rest, max_length=limit + 1))
        limit = _left(limit, len(parts[-1]))
        if not reader.eof:
            raise EOFError("it is cut off")
        rest = reader.unused_data or b""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _left(limit: int, size: int) -> int:
    if size > limit:
        raise OverflowError
    return limit - size


def _zstd(data: Bytes, limit: int) -> memoryview:
    out = np.empty(limit, np.uint8)  # address space only: pages that are not written to take no memory
    try:
        size = cramjam.zstd.decompress_into(data, out.data)
    except cramjam.DecompressionError as error:
        if "failed to write whole buffer" in str(error):
            raise OverflowError from error
        raise
    return out[:size].data


def _snappy(data: Bytes, limit: int) -> bytes:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(data, limit)
    parts: list[bytes] = []
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        if bytes(data[at : at + len(_XERIAL)]) == _XERIAL:  # streams may follow each other
            at += _XERIAL_HEADER_BYTES
            continue
        if len(data) - at < _SIZE.size:
            raise EOFError("it is cut off")
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if not 0 <= size <= len(data) - at:
            raise EOFError(f"a block of {size} bytes does not fit")
        parts.append(_snappy_block(data[at : at + size], limit))
        limit -= len(parts[-1])
        at += size
    return b"".join(parts)


def _snappy_block(data: Bytes, limit: int) -> bytes:
    # The size that a block announces is exact: a block with more or less in it is refused by the library.
    if int(cramjam.snappy.decompress_raw_len(data)) > limit:
        raise OverflowError
    return bytes(cramjam.snappy.decompress_raw(data))


_READERS: dict[int, Callable[[Bytes, int], Bytes]] = {
    Codec.GZIP: _gzip,
    Codec.SNAPPY: _snappy,
    Codec.LZ4: _lz4,
    Codec.ZSTD: _zstd,
}
