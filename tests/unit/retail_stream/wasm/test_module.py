"""The loader: memory that is bounded and given back, one memory a thread, traps that end the call only."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import wasmtime

from retail_stream.wasm.module import KEEP_BYTES, MemoryLimit, Module

TEXT = """(module
  (memory (export "memory") 1)
  (global (export "__heap_base") i32 (i32.const 1000))
  (func (export "load") (param i32) (result i64) (i64.load (i32.wrap_i64 (i64.load (local.get 0)))))
  (func (export "last") (param i32) (result i64) (i64.load offset=120 (local.get 0)))
  (func (export "nothing") (param i32))
  (func (export "spin") (param i32) (result i64) (local i64)
    (local.set 1 (i64.load (local.get 0)))
    (loop (br_if 0 (i64.ne (local.tee 1 (i64.sub (local.get 1) (i64.const 1))) (i64.const 0)))) (local.get 1)))"""


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wasm") / "test.wasm"
    path.write_bytes(wasmtime.wat2wasm(TEXT))
    return path


@pytest.mark.parametrize("data", [b"12345678", bytearray(b"12345678"), np.frombuffer(b"12345678", np.int64)])
def test_a_function_reads_what_was_put(path, data):
    with Module(path).memory() as memory:
        memory.reserve(3)
        assert memory.call("load", memory.put(data)) == int.from_bytes(b"12345678", "little")


def test_sixteen_arguments_are_passed_and_no_result_is_0(path):
    with Module(path).memory() as memory:
        assert memory.call("last", *range(15), -(2**63)) == -(2**63)
        assert memory.call("nothing", 1) == 0


def test_regions_are_aligned_apart_and_beyond_the_modules_own_data(path):
    with Module(path).memory() as memory:
        first, second = memory.put(np.arange(9)), memory.put(np.arange(9, 18))
        assert (first % 64, second % 64) == (0, 0)
        assert first >= 1000
        assert memory.read(first, np.int64, 9).tolist() == list(range(9))
        assert memory.read(second, np.int64, (3, 3)).tolist() == [[9, 10, 11], [12, 13, 14], [15, 16, 17]]


def test_what_was_put_survives_growth(path):
    with Module(path).memory() as memory:
        at = memory.put(b"abcd" * 10_000)
        memory.reserve(2**24)
        assert memory.read(at, "S1", 4).tolist() == [b"a", b"b", b"c", b"d"]
        assert memory.size >= 2**24


def test_a_block_cannot_exceed_its_limit(path):
    module = Module(path, memory_limit=2**20)
    with pytest.raises(MemoryLimit, match=r"the limit is 1,048,576 bytes"), module.memory() as memory:
        memory.reserve(2**20)
    with module.memory() as memory:
        memory.reserve(2**20 - 2000)


def test_a_large_memory_is_given_back_and_a_small_one_kept(path):
    module = Module(path)
    with module.memory() as small:
        small.reserve(2**20)
    with module.memory() as again:
        assert again is small
        again.reserve(KEEP_BYTES + 1)
    with module.memory() as other:
        assert other is not small


def test_a_trap_ends_the_call_and_its_memory_only(path):
    module = Module(path)
    with pytest.raises(wasmtime.Trap, match="out of bounds"), module.memory() as memory:
        memory.call("load", 2**32 - 1)
    with module.memory() as other:
        assert other is not memory
        assert other.call("load", other.put(bytes(8))) == 0


def test_threads_have_memories_of_their_own(path):
    module, wrong = Module(path), []

    def work(number: int) -> None:
        for _ in range(200):
            with module.memory() as memory:
                at = memory.put(np.array([number]))
                if memory.call("load", at) != number or memory.read(at, np.int64, 1)[0] != number:
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_call_releases_the_interpreters_lock(path):
    """Another thread finishes its work before the call ends, and asks for nothing but the lock."""
    order: list[str] = []
    go = threading.Event()
    with Module(path).memory() as memory:
        start = time.perf_counter()
        memory.call("spin", 10_000_000)
        rounds = max(10_000_000, int(5_000_000 / (time.perf_counter() - start)))  # about half a second

        def other() -> None:
            go.wait()
            order.append("other")

        thread = threading.Thread(target=other)
        thread.start()
        go.set()
        memory.call("spin", rounds)
        order.append("call")
        thread.join()
    assert order == ["other", "call"]
