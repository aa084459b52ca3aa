"""What becomes of a chunk is delivered, all of it, before it may be acknowledged; sizes are no obstacle."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, cast

import pytest

from retail_stream.avro.decode import encode, frame
from retail_stream.avro.registry import Registry
from retail_stream.dead_letters import IN_RAW_TOPIC, Header
from retail_stream.entities import Entity
from retail_stream.errors import Unavailable
from retail_stream.kafka.delivery import BatchRefused, Delivery
from retail_stream.kafka.headers import SOURCE_OFFSET
from retail_stream.kafka.limits import BatchLimits
from retail_stream.kafka.record_batches import codecs
from retail_stream.kafka.record_batches.pieces import pieces
from retail_stream.kafka.record_batches.record_set import record_set
from retail_stream.kafka.record_batches.reference import Record
from retail_stream.rules.rule_set import load
from services.cleaner.forward import Forwarder
from tests.harness.examples import CLEAN_ID, RAW_ID, Raw, examples, schema
from tests.harness.record_batches import as_records, batch, read_all

CLEAN, DEAD = "products.clean", "products.dlq"


class Schemas:
    """A registry with one raw and one clean schema; ``asked``: how often it was asked."""

    asked = 0

    def versions(self, subject: str, known: Any = ()) -> dict[int, Any]:
        self.asked += 1
        return {1: (RAW_ID, schema(Entity.PRODUCTS, "raw"))}

    def register(self, subject: str, _: Any, compatibility: str) -> int:
        return CLEAN_ID


class Brokers:
    """In place of `Delivery`: topics whose limits may be lower than what is known of them."""

    def __init__(self, **limits: int) -> None:
        self.limits = {CLEAN: 2**24, DEAD: 2**24, **{name.replace("_", "."): n for name, n in limits.items()}}
        self.known = dict(self.limits)
        self.stored: list[tuple[str, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, topic: str, partition: int, batch: bytes) -> int:
        await self.gate.wait()
        if len(batch) > self.limits[topic]:
            raise BatchRefused(topic, len(batch))
        self.stored.append((topic, batch))
        return 0

    def ask(self) -> dict[str, int]:
        return self.known

    def records(self, topic: str) -> list[Record]:
        return [r for name, batch in self.stored if name == topic for r in read_all(record_set(name, 0, batch, 0))]

    def sources(self) -> list[int]:
        return [int.from_bytes(dict(r.headers)[SOURCE_OFFSET.encode()] or b"", "big") for r in self.records(CLEAN)]


def forwarder(
    brokers: Brokers, registry: Any = None, wait: Any = lambda ask: ask(), handed: list[Any] | None = None
) -> Forwarder:
    """``handed``: gets what is handed to the thread that computes."""

    async def compute(function: Any, *arguments: Any) -> Any:
        if handed is not None:
            handed.append(arguments[0])
        return function(*arguments)

    limits = BatchLimits(brokers.ask)
    registry = cast("Registry", registry or Schemas())
    return Forwarder(Entity.PRODUCTS, registry, cast("Delivery", brokers), limits, compute, wait)


def products(*descriptions: str) -> Raw:
    """Good products."""
    example = next(e for e in examples("valid") if e.entity is Entity.PRODUCTS and e.value and not e.defaults)
    writer = schema(Entity.PRODUCTS, "raw")
    fields = [
        {"name": f["name"], "type": f["type"] if isinstance(f["type"], str) else "long"} for f in writer["fields"]
    ]
    values = [
        frame(RAW_ID, encode({**writer, "fields": fields}, {**(example.value or {}), "description": text}))
        for text in descriptions
    ]
    n = len(values)
    return Raw(Entity.PRODUCTS, values, [*example.raw.keys] * n, [*example.raw.timestamps] * n)


def torn(raw: Raw, *rows: int) -> Raw:
    values = [(value or b"")[:-1] if row in rows else value for row, value in enumerate(raw.values)]
    return Raw(raw.entity, values, raw.keys, raw.timestamps)


def noise(size: int) -> str:
    """Text that does not compress."""
    return os.urandom(size // 2).hex()


def headers(record: Record) -> dict[str, bytes | None]:
    return {name.decode(): value for name, value in record.headers}


@pytest.fixture
def two() -> Raw:
    return products("a", "b")


def test_it_returns_when_clean_records_and_dead_letters_are_there(two: Raw):
    async def run() -> None:
        brokers = Brokers()
        brokers.gate.clear()
        forwarding = asyncio.create_task(forwarder(brokers).forward([torn(two, 1).columns()]))
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert not forwarding.done()
        assert brokers.stored == []
        brokers.gate.set()
        delivered = await forwarding
        assert (delivered.records, delivered.rejected) == (2, [1])
        assert brokers.sources() == [0]
        (letter,) = brokers.records(DEAD)
        assert (letter.value, letter.key) == ((two.values[1] or b"")[:-1], two.keys[1])
        assert headers(letter)[Header.OFFSET] == b"1"

    asyncio.run(run())


def test_a_small_piece_is_computed_on_the_spot_and_a_large_one_in_the_thread_that_computes():
    handed: list[Any] = []
    small, large = products("a").columns(), products(noise(2**17)).columns()
    brokers = Brokers()
    asyncio.run(forwarder(brokers, handed=handed).forward([small, large]))
    assert brokers.sources() == [0, 0]
    assert handed == [large]


def test_a_topic_that_takes_less_than_before_gets_smaller_batches_and_a_repeat_at_most():
    async def run() -> None:
        brokers = Brokers(products_clean=4000)
        brokers.known = {**brokers.known, CLEAN: 2**20}
        forwarding = forwarder(brokers)
        small, large = products("a"), products(*[noise(600)] * 20)
        task = asyncio.create_task(forwarding.forward([small.columns(), large.columns()]))
        while not any(topic == CLEAN for topic, _ in brokers.stored):
            await asyncio.sleep(0)
        brokers.known[CLEAN] = 4000
        delivered = await task
        assert (delivered.records, delivered.rejected) == (21, [])
        assert brokers.sources()[-21:] == [0, *range(20)]
        assert max(len(batch) for _, batch in brokers.stored) <= 4000

    asyncio.run(run())


def test_a_record_that_the_clean_topic_cannot_take_is_a_letter_without_payload_and_its_neighbours_pass():
    brokers = Brokers(products_clean=4000)
    raw = products("a", noise(6000), "b")
    delivered = asyncio.run(forwarder(brokers).forward([raw.columns()]))
    assert delivered.rejected == [1]
    assert brokers.sources() == [0, 2]
    (letter,) = brokers.records(DEAD)
    assert (letter.key, letter.value, letter.timestamp) == (None, None, raw.timestamps[1])
    found = headers(letter)
    assert found[Header.PAYLOAD] == IN_RAW_TOPIC
    assert (found[Header.TOPIC], found[Header.OFFSET]) == (b"products.raw", b"1")
    assert found[Header.RULES] == b"size_forwardable"
    assert found[Header.MESSAGE] == (
        b"its clean record is larger than products.clean takes: 4,000 bytes, 67,108,864 before compression"
    )


def test_a_record_that_is_too_large_to_be_read_is_a_letter_without_payload_and_its_neighbours_pass(monkeypatch):
    monkeypatch.setattr(codecs, "BLOCK_BYTES", 100)
    brokers = Brokers()
    raw = products("a", "b" * 6000, "c")
    data = batch(as_records(raw.columns()), "zstd")
    read = list(pieces(record_set("products.raw", 0, data, 0), batch_bytes=0, record_bytes=4000))
    delivered = asyncio.run(forwarder(brokers).forward(read))
    assert (delivered.records, delivered.rejected, delivered.fresh) == (3, [1], [1])
    assert brokers.sources() == [0, 2]
    (letter,) = brokers.records(DEAD)
    assert (letter.key, letter.value, letter.timestamp) == (None, None, raw.timestamps[1])
    found = headers(letter)
    assert found[Header.PAYLOAD] == IN_RAW_TOPIC
    assert (found[Header.RULES], found[Header.OFFSET]) == (b"size_forwardable", b"1")
    assert found[Header.MESSAGE] == b"it is larger than 67,108,864 bytes before compression"


def test_a_letter_that_its_topic_cannot_take_has_no_payload_and_its_reasons():
    brokers = Brokers(products_dlq=4000)
    delivered = asyncio.run(forwarder(brokers).forward([torn(products("a", noise(6000), "b"), 0, 1).columns()]))
    assert delivered.rejected == [0, 1]
    assert brokers.sources() == [2]
    letters = brokers.records(DEAD)
    assert [headers(letter)[Header.RULES] for letter in letters] == [b"valid_avro"] * 2
    assert [headers(letter).get(Header.PAYLOAD) for letter in letters] == [None, IN_RAW_TOPIC]
    assert [letter.value is None for letter in letters] == [False, True]


def test_a_dead_letter_topic_that_takes_no_letter_at_all_is_waited_for(two: Raw):
    brokers = Brokers(products_dlq=100)
    why: list[str] = []

    def wait(ask: Any) -> Any:
        while True:
            try:
                return ask()
            except Unavailable as error:
                why.append(str(error))
                brokers.limits[DEAD] = brokers.known[DEAD] = 2**20

    asyncio.run(forwarder(brokers, wait=wait).forward([torn(two, 0).columns()]))
    assert len(brokers.records(DEAD)) == 1
    assert why == ["The dead letters of products.raw need more than 100 bytes; raise products.dlq's max.message.bytes."]


def test_an_unknown_schema_id_is_looked_up_once_for_each_chunk(two: Raw):
    async def run(ids: Sequence[int]) -> int:
        registry = Schemas()
        forwarding = forwarder(Brokers(), registry)
        for number in ids:
            values = [frame(number, (value or b"")[5:]) for value in two.values]
            delivered = await forwarding.forward([Raw(two.entity, values, two.keys, two.timestamps).columns()])
            assert bool(delivered.rejected) == (number != RAW_ID)
        return registry.asked

    assert asyncio.run(run([RAW_ID, RAW_ID])) == 1
    # It may be registered by the next one.
    assert asyncio.run(run([99, 99])) == 2


def test_every_clean_record_names_the_rules_that_judged_it_and_so_does_a_dead_letter():
    sale = next(e for e in examples("valid") if str(e) == "products-product").raw
    brokers = Brokers()
    raw = Raw(Entity.PRODUCTS, [*sale.values, b"not avro"], [*sale.keys] * 2, [*sale.timestamps] * 2)
    asyncio.run(forwarder(brokers).forward([raw.columns()]))
    names = [headers(r)["rules.version"] for topic in (CLEAN, DEAD) for r in brokers.records(topic)]
    assert names == [load(Entity.PRODUCTS).version.encode()] * 2


def test_a_replayed_dead_letter_that_is_still_bad_does_not_count_for_the_ratio():
    bad = next(e for e in examples("invalid") if str(e) == "products-nan_price").raw
    replay = {1: ((b"replay.of", b"products.raw/0/0"),)}
    raw = Raw(Entity.PRODUCTS, [*bad.values] * 2, [*bad.keys] * 2, [*bad.timestamps] * 2, replay)
    delivered = asyncio.run(forwarder(Brokers()).forward([raw.columns()] * 2))
    assert (sorted(delivered.rejected), delivered.fresh) == ([0, 1, 2, 3], [0, 2])
