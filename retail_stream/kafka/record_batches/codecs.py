"""Kafka's five codecs. Decompression goes block by block, so a few kilobytes cannot fill the memory."""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Protocol, TypeAlias

import cramjam
import lz4.frame
import numpy as np

from retail_stream.kafka.record_batches.errors import Malformed, TooLarge

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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
# Its densest element: three bytes that copy 64.
_SNAPPY_RATIO = 22

#: What is decompressed at a time, at most.
BLOCK_BYTES = 2**20


def decompress(codec: int, data: Bytes, limit: int) -> Bytes:
    """Decompressed `data`; of codec 0 `data` itself.

    Raises:
        TooLarge: the result is larger than `limit` bytes.
        Malformed: as `blocks`.
    """
    if codec == Codec.NONE:
        return data
    return join(blocks(codec, data), limit)


def join(parts: Iterable[Bytes], limit: int) -> Bytes:
    """All of `parts`. Raises `TooLarge` once they have more than `limit` bytes."""
    kept: list[Bytes] = []
    for part in parts:
        limit -= len(part)
        if limit < 0:
            raise TooLarge
        kept.append(part)
    return kept[0] if len(kept) == 1 else b"".join(kept)


def blocks(codec: int, data: Bytes) -> Iterator[Bytes]:
    """Decompressed `data` in blocks, in order; each is decompressed when it is asked for.

    A block has at most `BLOCK_BYTES`. A raw block of snappy comes whole; it is at most 22 times as large as `data`.

    Raises:
        Malformed: `data` is not of that codec, is cut off, or the codec is unknown.
    """
    if codec not in _READERS:
        raise Malformed(f"its codec {codec} is unknown")
    try:
        yield from _READERS[codec](data)
    except (zlib.error, zstd.ZstdError, cramjam.DecompressionError, RuntimeError, EOFError) as error:
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


def _none(data: Bytes) -> Iterator[Bytes]:
    view = memoryview(data)
    for at in range(0, len(view), BLOCK_BYTES):
        yield view[at : at + BLOCK_BYTES]


def _gzip(data: Bytes) -> Iterator[bytes]:
    rest: Bytes = data
    reader = None
    while rest or reader is None:  # a file may have several members
        reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while not reader.eof:
            block = reader.decompress(rest, BLOCK_BYTES)
            rest = reader.unconsumed_tail
            if not block and not rest and not reader.eof:
                raise EOFError("it is cut off")
            yield block
        rest = reader.unused_data


class _FrameReader(Protocol):
    """What the decompressors of lz4 and zstd have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: Bytes, max_length: int) -> bytes: ...


def _frames(new_reader: Callable[[], _FrameReader]) -> Callable[[Bytes], Iterator[bytes]]:
    def read(data: Bytes) -> Iterator[bytes]:
        rest: Bytes = data
        reader = None
        while rest or reader is None:  # frames may follow each other
            reader = new_reader()
            while not reader.eof:
                block = reader.decompress(rest, BLOCK_BYTES)
                rest = b""  # the reader keeps what it has not used
                if not block and not reader.eof:
                    raise EOFError("it is cut off")
                yield block
            rest = reader.unused_data or b""

    return read


def _snappy(data: Bytes) -> Iterator[bytes]:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        yield _snappy_block(data)
        return
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
        yield _snappy_block(data[at : at + size])
        at += size


def _snappy_block(data: Bytes) -> bytes:
    # The size that a block announces is exact: a block with more or less in it is refused by the library.
    size = int(cramjam.snappy.decompress_raw_len(data))
    if size > _SNAPPY_RATIO * len(data):
        raise EOFError(f"{len(data):,} bytes cannot hold {size:,}")
    return bytes(cramjam.snappy.decompress_raw(data))


_READERS: dict[int, Callable[[Bytes], Iterator[Bytes]]] = {
    Codec.NONE: _none,
    Codec.GZIP: _gzip,
    Codec.SNAPPY: _snappy,
    Codec.LZ4: _frames(lz4.frame.LZ4FrameDecompressor),
    Codec.ZSTD: _frames(zstd.ZstdDecompressor),
}
