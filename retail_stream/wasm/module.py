"""Runs a WebAssembly module over buffers: copy bytes in, call a function, copy arrays out.

    PASSES = Module(Path(__file__).with_name("passes.wasm"))

    with PASSES.memory() as memory:
        data = memory.put(body)
        lengths = memory.reserve(8 * rows)
        memory.call("measure", data, len(body), lengths)
        return memory.read(lengths, np.int64, rows)

A module is compiled at its first use, once a process. Any number of threads may use it: each `memory()` block has a
memory of its own. The interpreter's lock is free during `call`. A function that reads or writes outside its memory
raises `wasmtime.Trap`; it cannot touch the process.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import wasmtime

#: What `put` accepts: any contiguous buffer.
Buffer: TypeAlias = bytes | bytearray | memoryview | npt.NDArray[Any]
Shape: TypeAlias = int | tuple[int, ...]

PAGE = 65536
#: Arguments of a call, at most.
ARGUMENTS = 16
#: Regions start at multiples of this, so that every dtype is aligned.
ALIGNMENT = 64
#: A memory that has grown beyond this is closed after use; a smaller one is kept for the next block.
KEEP_BYTES = 2**25


class MemoryLimit(MemoryError):
    """A block needs more memory than its module may use."""


class Memory:
    """The memory of one instance of a module, for one thread at a time.

    `put` and `reserve` give addresses of new regions; the block's end frees all of them. Nothing is cleared: a
    reserved region holds arbitrary bytes.
    """

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, limit: int) -> None:
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=limit)
        exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._functions = {n: e for n, e in exports.items() if isinstance(e, wasmtime.Func)}
        memory, base = exports["memory"], exports["__heap_base"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(base, wasmtime.Global)
        self._memory, self._base = memory, int(base.value(self._store))
        self._limit, self._free, self._size = limit, self._base, memory.data_len(self._store)
        self._bytes = self._all()
        self._arguments = self.reserve(8 * ARGUMENTS)
        self._base = self._free

    def _all(self) -> npt.NDArray[np.uint8]:
        return np.ctypeslib.as_array(self._memory.data_ptr(self._store), (self._size,))

    @property
    def size(self) -> int:
        """Bytes that the memory has grown to."""
        return self._size

    def reserve(self, size: int) -> int:
        """Address of a new region of `size` bytes. Raises `MemoryLimit`."""
        address = -(-self._free // ALIGNMENT) * ALIGNMENT
        end = address + size
        if end > self._size:
            if end > self._limit:
                raise MemoryLimit(f"{end:,} bytes of WebAssembly memory are needed; the limit is {self._limit:,} bytes")
            self._memory.grow(self._store, -(-(end - self._size) // PAGE))
            self._size = self._memory.data_len(self._store)
            self._bytes = self._all()
        self._free = end
        return address

    def put(self, data: Buffer) -> int:
        """Address of a copy of `data`, which must be contiguous. Raises `MemoryLimit`."""
        view = data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
        address = self.reserve(len(view))
        self._bytes[address : address + len(view)] = view
        return address

    def call(self, function: str, *arguments: int) -> int:
        """Result of a pass; 0 if it has none. Releases the interpreter's lock meanwhile.

        A pass takes one pointer, to its arguments as int64: passed one by one, each of them costs 6 µs.
        """
        found = self._functions[function]
        if len(found.type(self._store).params) > 1:
            return found(self._store, *arguments) or 0
        self.view(self._arguments, np.int64, len(arguments))[:] = arguments
        return found(self._store, self._arguments) or 0

    def view(self, address: int, dtype: npt.DTypeLike, shape: Shape) -> npt.NDArray[Any]:
        """The array at `address`, not copied. It must not be used after the block, nor after another `reserve`."""
        count = shape if isinstance(shape, int) else int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        assert 0 <= address <= address + size <= self._size
        return self._bytes[address : address + size].view(dtype).reshape(shape)

    def read(self, address: int, dtype: npt.DTypeLike, shape: Shape) -> npt.NDArray[Any]:
        """A copy of the array at `address`."""
        return self.view(address, dtype, shape).copy()

    def clear(self) -> None:
        """Free all regions; the memory keeps its size."""
        self._free = self._base

    def close(self) -> None:
        """Give the memory back to the operating system."""
        self._bytes = self._bytes[:0]
        self._store.close()


class Module:
    """A WebAssembly module in a file. `memory_limit`: bytes that one block may use."""

    def __init__(self, path: Path, memory_limit: int = 2**30) -> None:
        self._path, self._limit = path, memory_limit
        self._lock = threading.Lock()
        self._idle: list[Memory] = []

    @cached_property
    def _compiled(self) -> tuple[wasmtime.Engine, wasmtime.Module]:
        config = wasmtime.Config()
        config.parallel_compilation = False  # it would leave a pool of threads behind
        config.memory_may_move = False
        engine = wasmtime.Engine(config)
        return engine, wasmtime.Module(engine, self._path.read_bytes())

    @contextmanager
    def memory(self) -> Iterator[Memory]:
        """An empty memory for the block, for the calling thread only."""
        with self._lock:
            memory = self._idle.pop() if self._idle else Memory(*self._compiled, self._limit)
        try:
            yield memory
        except BaseException:
            memory.close()  # a function that trapped may have left the module's own data half written
            raise
        memory.clear()
        if memory.size > KEEP_BYTES:
            memory.close()
            return
        with self._lock:
            self._idle.append(memory)
