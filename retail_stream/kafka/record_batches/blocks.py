"""Bytes that come block by block, of which only a part is kept."""

from collections.abc import Iterator

from retail_stream.kafka.record_batches.codecs import Bytes
from retail_stream.kafka.record_batches.errors import Malformed


class Blocks:
    """A text that is read from its begin to its end."""

    def __init__(self, blocks: Iterator[Bytes]) -> None:
        self._blocks = blocks
        #: What was read and not dropped.
        self.data: Bytes = b""

    def fill(self, size: int) -> None:
        """Read until `data` has `size` bytes or one block more, or the text ends."""
        parts, have = [self.data], len(self.data)
        while have < size and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            have += len(block)
        if len(parts) > 1:
            self.data = b"".join(parts)

    def drop(self, size: int) -> None:
        """Forget the next `size` bytes, read or not. Raises `Malformed` where the text ends before."""
        while size > len(self.data):
            size -= len(self.data)
            block = next(self._blocks, None)
            if block is None:
                raise Malformed("it is cut off")
            self.data = block
        self.data = memoryview(self.data)[size:]
