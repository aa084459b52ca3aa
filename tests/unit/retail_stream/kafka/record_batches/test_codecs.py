"""Codecs: every frame that Kafka's clients write is read; damaged bytes are one error and never more than the limit."""

import contextlib
import zlib

import cramjam
import lz4.frame
import pytest
from aiokafka.codec import snappy_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_stream.kafka.record_batches.codecs import BLOCK_BYTES, Codec, blocks, compress_lz4, decompress
from retail_stream.kafka.record_batches.errors import Malformed, TooLarge
from tests.harness.record_batches import COMPRESSORS, xerial

TEXT = b"some text, some text, some other text" * 100
CODECS = sorted(set(COMPRESSORS) - {"none"})


@pytest.mark.parametrize("name", CODECS)
def test_the_limit_is_exact(name):
    codec, compress = COMPRESSORS[name]
    assert bytes(decompress(codec, compress(TEXT), len(TEXT))) == TEXT
    with pytest.raises(TooLarge):
        decompress(codec, compress(TEXT), len(TEXT) - 1)


@pytest.mark.parametrize("name", sorted(set(COMPRESSORS) - {"snappy, raw"}))
def test_blocks_are_small_whatever_they_expand_to(name):
    codec, compress = COMPRESSORS[name]
    text = bytes(9_000_000) if name != "snappy, framed" else TEXT
    sizes = [len(block) for block in blocks(codec, compress(text))]
    assert sum(sizes) == len(text)
    assert max(sizes) <= BLOCK_BYTES


def test_a_snappy_block_that_announces_more_than_it_can_hold_is_malformed_before_memory_is_reserved():
    whole = bytes(cramjam.snappy.compress_raw(bytes(9_000_000)))
    assert len(decompress(Codec.SNAPPY, whole, 9_000_000)) == 9_000_000
    with pytest.raises(Malformed, match=r"15 bytes cannot hold 4,294,967,295"):
        decompress(Codec.SNAPPY, bytes([255, 255, 255, 255, 15]) + bytes(10), 2**40)


@pytest.mark.parametrize("name", CODECS)
def test_bytes_that_are_cut_off_are_malformed(name):
    codec, compress = COMPRESSORS[name]
    whole = compress(TEXT)
    for cut in range(1, len(whole), max(1, len(whole) // 50)):
        try:
            short = decompress(codec, whole[:cut], 2**16)
        except Malformed:
            continue
        assert name == "snappy, framed"  # it may end between two blocks; the count of records notices
        assert TEXT.startswith(bytes(short))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CODECS), st.data())
def test_damaged_bytes_are_malformed_or_small(name, data):
    codec, compress = COMPRESSORS[name]
    whole = bytearray(compress(TEXT[: data.draw(st.integers(0, len(TEXT)))]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole.insert(data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 255)))
        del whole[data.draw(st.integers(0, len(whole) - 1))]
    with contextlib.suppress(Malformed, TooLarge):
        assert len(decompress(codec, bytes(whole), 5000)) <= 5000


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_malformed(codec):
    with pytest.raises(Malformed, match=f"codec {codec} is unknown"):
        decompress(codec, b"", 10)


def test_frames_that_follow_each_other_are_one_text():
    assert decompress(Codec.GZIP, zlib.compress(b"a", wbits=31) + zlib.compress(b"b", wbits=31), 2) == b"ab"
    assert decompress(Codec.LZ4, lz4.frame.compress(b"a") + lz4.frame.compress(b"b"), 2) == b"ab"
    assert decompress(Codec.SNAPPY, xerial(b"a") + xerial(b"b"), 2) == b"ab"
    with pytest.raises(TooLarge):
        decompress(Codec.GZIP, zlib.compress(b"a", wbits=31) * 3, 2)


def test_aiokafkas_snappy_is_read():
    assert decompress(Codec.SNAPPY, snappy_encode(TEXT), 2**20) == TEXT
    assert decompress(Codec.SNAPPY, bytes(snappy_encode(TEXT, xerial_compatible=False)), 2**20) == TEXT


def test_lz4_frames_have_independent_blocks_as_javas_reader_wants():
    """Bit 5 of the frame's flags, behind the magic; Java's reader refuses frames without it."""
    frame = compress_lz4(bytes(2**20))
    assert frame[4] & 0x20
    assert bytes(cramjam.lz4.decompress(frame)) == bytes(2**20)
