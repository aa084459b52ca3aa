"""Which record belongs where, as `verify` recomputes it from the raw bytes."""

import io
from dataclasses import dataclass, field

import fastavro
import pytest

from commands.audit.avro import Decoder, layout, without_logical_types
from commands.audit.engine import Engine
from commands.audit.raw_table import RawTable
from commands.audit.rule_sets import RuleSets
from commands.verify import cleaning
from commands.verify.tables import CleanTable, DeadLetterTable, recode
from retail_stream import topics
from retail_stream.entities import FIELDS, Entity
from retail_stream.rules.built_in import Action
from retail_stream.rules.rule_set import Rule, RuleSet

RAW_ID, CLEAN_ID = 3, 4
REJECTING = {
    "time_not_future": "{time} <= record_time + INTERVAL '5 minutes'",
    "discount_not_negative": "discount_applied >= 0",
}
EMAIL = r"email IS NOT NULL AND regexp_matches(email, '[^\t-\r\x{85}\p{Z}]')"


def rules_of(entity: Entity) -> RuleSet:
    """Rules of the tests' own, so that those of `schemas/rules` may change."""
    names = list(REJECTING)[: 2 if entity is Entity.SALES else 1]
    rules = [Rule(n, REJECTING[n].format(time=FIELDS[entity].time), Action.REJECT, "So it is.") for n in names]
    if entity is Entity.CUSTOMERS:
        rules.append(Rule("email_present", EMAIL, Action.DEFAULT, "So it is.", "email", "Unknown"))
    return RuleSet(entity, tuple(rules))


BOOKS = {entity: RuleSets(rules_of(entity), {rules_of(entity).version: rules_of(entity)}) for entity in Entity}
TODAY = BOOKS[Entity.CUSTOMERS].today.version
NOW_MS = 1_700_000_000_000
FIVE_MINUTES = 300_000_000


@dataclass
class Record:
    """What a Kafka message is to a reader."""

    at: int
    payload: bytes | None
    id: bytes | None = b"1"
    heads: list[tuple[str, bytes]] = field(default_factory=list)
    stamp: int = NOW_MS

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, self.stamp

    def key(self) -> bytes | None:
        return self.id

    def value(self) -> bytes | None:
        return self.payload

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self.heads or None


def schema(kind: str, entity: Entity) -> dict:
    return topics.topic(f"{entity}.{kind}").schema()


def encode(entity: Entity, kind: str = "raw", number: int = RAW_ID, **values: object) -> bytes:
    """A good record of store or customer or product 1, or a good sale in it, with other ``values``."""
    good: dict = {}
    for f in layout(topics.raw(entity))["fields"]:
        good[f["name"]] = {"int": 1, "long": 1, "double": 1.0}.get(str(f["type"]), "x")
        if f["name"].endswith("_time"):
            good[f["name"]] = NOW_MS * 1000
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(without_logical_types(schema(kind, entity))), {**good, **values}
    )
    return b"\x00" + number.to_bytes(4, "big") + out.getvalue()


def big_endian(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def letter(offset: int, source: int, value: bytes | None, rules: str, version: str = TODAY, **other) -> Record:
    heads = {"__connect.errors.topic": "customers.raw", "__connect.errors.partition": "0"}
    heads |= {"__connect.errors.offset": str(source), "rules": rules, "rules.version": version}
    own = {"stage": "TRANSFORMATION", "exception.class.name": "retail_stream.errors.Rejected"}
    own["exception.message"] = f"customers record breaks: {rules.replace(',', ', ')}"
    own |= {name: other.pop(name) for name in [*own] if name in other}
    heads |= {f"__connect.errors.{name}": text for name, text in own.items()}
    return Record(offset, value, heads=[(k, v.encode()) for k, v in heads.items()], **other)


def verdict(engine: Engine, entity: Entity, *records: Record) -> list[str]:
    decoder = Decoder(layout(topics.raw(entity)), {RAW_ID: schema("raw", entity)})
    RawTable(engine, entity, decoder, BOOKS[entity]).take(records)
    CleanTable(engine, entity)
    DeadLetterTable(engine, entity)
    cleaning.place(engine, BOOKS[entity])
    return [b for (b,) in engine.execute(f'SELECT broken FROM places_{entity} ORDER BY "offset"').fetchall()]


@pytest.mark.parametrize("entity", Entity)
def test_a_good_record_breaks_no_rule(engine, entity):
    assert verdict(engine, entity, Record(0, encode(entity))) == [""]


@pytest.mark.parametrize(
    ("values", "broken"),
    [
        ({"quantity": -3}, ""),
        ({"discount_applied": -0.01}, "discount_not_negative"),
        ({"discount_applied": -0.0}, ""),
        ({"discount_applied": float("nan")}, "amounts_in_range"),
        ({"unit_price": float("inf")}, "amounts_in_range"),
        ({"total_amount": -1e9}, "amounts_in_range"),
        ({"tax_amount": 999_999_999.99}, ""),
        ({"event_time": NOW_MS * 1000 + FIVE_MINUTES}, ""),
        ({"event_time": NOW_MS * 1000 + FIVE_MINUTES + 1}, "time_not_future"),
        ({"event_time": -2_208_988_800_000_000}, ""),
        ({"event_time": -2_208_988_800_000_001}, "time_in_range"),
        ({"event_time": 2**63 - 1}, "time_in_range,time_not_future"),
        ({"payment_method": "ca\0sh"}, "text_without_nul"),
        ({"store_id": 2, "discount_applied": -1.0}, "discount_not_negative,key_matches"),
    ],
)
def test_sales_are_judged_by_every_rule(engine, values, broken):
    assert verdict(engine, Entity.SALES, Record(0, encode(Entity.SALES, **values))) == [broken]


@pytest.mark.parametrize("key", [None, b"", b"01", b"+1", b" 1", b"\xff", b"2"])
def test_a_key_is_the_decimal_id(engine, key):
    assert verdict(engine, Entity.SALES, Record(0, encode(Entity.SALES), key)) == ["key_matches"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00\x00",
        b"\x01" + encode(Entity.SALES)[1:],
        encode(Entity.SALES, number=99),
        encode(Entity.SALES)[:-1],
        encode(Entity.SALES) + b"\x00",
    ],
)
def test_what_is_not_exactly_one_record_of_a_registered_schema_is_no_avro(engine, value):
    assert verdict(engine, Entity.SALES, Record(0, value)) == ["valid_avro"]


def test_a_sale_cannot_be_deleted_and_a_customer_can(engine):
    assert verdict(engine, Entity.SALES, Record(0, None)) == ["value_present"]
    records = [
        Record(0, None),
        Record(1, None, b"x"),
        Record(2, None, b"2147483648"),
        Record(3, None, heads=[("sequence.time", big_endian(0))]),
        Record(4, None, heads=[("sequence.time", b"123")]),
        Record(5, None, heads=[("sequence.time", big_endian(NOW_MS * 1000 + FIVE_MINUTES + 1))]),
    ]
    assert verdict(engine, Entity.CUSTOMERS, *records) == [
        "", "key_matches", "key_matches", "", "sequence_time_valid", "time_not_future"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("email", "clean"),
    [
        (None, "Unknown"),
        ("", "Unknown"),
        (" \t\u00a0\u2003\n", "Unknown"),
        ("a@b", "a@b"),
        (" a ", " a "),
        ("\x1f", "\x1f"),
    ],
)
def test_a_null_or_blank_email_becomes_unknown(engine, email, clean):
    verdict(engine, Entity.CUSTOMERS, Record(0, encode(Entity.CUSTOMERS, email=email)))
    assert engine.execute("SELECT email FROM raw_customers").fetchall() == [(clean,)]


GOOD = encode(Entity.CUSTOMERS)


def test_a_rejected_record_gets_no_default(engine):
    ahead = encode(Entity.CUSTOMERS, email=None, last_update_time=NOW_MS * 1000 + FIVE_MINUTES + 1)
    assert verdict(engine, Entity.CUSTOMERS, Record(0, ahead)) == ["time_not_future"]
    assert engine.execute("SELECT email FROM raw_customers").fetchall() == [(None,)]


NO_EMAIL = encode(Entity.CUSTOMERS, email=None)
BAD = encode(Entity.CUSTOMERS, name="a\0b")


def check(
    engine: Engine,
    clean: list[Record],
    dead: list[Record],
    raw: list[Record] | None = None,
    book: RuleSets = BOOKS[Entity.CUSTOMERS],
):
    entity = Entity.CUSTOMERS
    raw_decoder = Decoder(layout(topics.raw(entity)), {RAW_ID: schema("raw", entity)})
    clean_decoder = Decoder(layout(topics.raw(entity)), {CLEAN_ID: schema("clean", entity)})
    given = [Record(0, GOOD), Record(1, NO_EMAIL), Record(2, BAD), Record(3, None)] if raw is None else raw
    RawTable(engine, entity, raw_decoder, book).take(given)
    CleanTable(engine, entity).take(clean)
    DeadLetterTable(engine, entity).take(dead)
    recode(engine, entity, raw_decoder, clean_decoder)
    cleaning.place(engine, book)
    return cleaning.checks(engine, entity)


def cleaned(offset: int, source: int, value: bytes | None = b"", **other) -> Record:
    if value == b"":
        value = encode(Entity.CUSTOMERS, "clean", CLEAN_ID, **({"email": "Unknown"} if source == 1 else {}))
    heads = [("source.offset", big_endian(source)), ("rules.version", other.pop("version", TODAY).encode())]
    return Record(offset, value, heads=heads, **other)


CLEAN = [cleaned(0, 0), cleaned(1, 1), cleaned(2, 3, None)]
DEAD = [letter(0, 2, BAD, "text_without_nul")]


def test_all_in_its_place(engine):
    clean, dead = check(engine, CLEAN, DEAD)
    assert (clean.ok, clean.expected, clean.actual) == (True, 3, 3), clean
    assert (dead.ok, dead.expected, dead.actual) == (True, 1, 1), dead


def test_repeats_of_the_cleaner_are_no_difference(engine):
    clean, dead = check(engine, [*CLEAN[:2], cleaned(2, 0), cleaned(3, 1), cleaned(4, 3, None)], DEAD * 2)
    assert (clean.ok, dead.ok) == (True, True), (clean, dead)


@pytest.mark.parametrize(("first", "is_due"), [(1, True), (2, True), (3, False), (2**62, False)])
def test_a_letter_is_expected_of_records_from_the_first_letter_that_is_left_on(engine, first, is_due):
    engine.execute("INSERT INTO letters_from VALUES ('customers.dlq', 0, ?), ('sales.dlq', 0, 9)", [first])
    clean, dead = check(engine, CLEAN, [])
    assert clean.ok, clean
    assert dead.ok is not is_due, dead
    assert dead.note == ("" if is_due else "1 raw records before the first letter that is left are in neither topic")


def test_records_that_the_cleaner_is_not_done_with_may_be_anywhere(engine):
    engine.execute("UPDATE committed SET next_offset = 1")
    assert all(c.ok for c in check(engine, CLEAN[:2], []))


@pytest.mark.parametrize(
    ("clean", "dead", "words"),
    [
        (CLEAN[1:], DEAD, "customers.raw/0@0: good, and missing in customers.clean"),
        ([cleaned(0, 1), cleaned(1, 0), CLEAN[2]], DEAD, "customers.raw/0@0: good, and missing in customers.clean"),
        (CLEAN, [], "customers.raw/0@2: breaks text_without_nul, and is missing in customers.dlq"),
        (CLEAN, [*DEAD, letter(1, 0, GOOD, "key_matches")], "0@0: both in customers.clean and in customers.dlq"),
        (CLEAN[:2], [*DEAD, letter(1, 3, None, "key_matches")], "0@3: breaks no rule, and is in customers.dlq"),
        ([*CLEAN[:2], cleaned(2, 2), cleaned(3, 3, None)], DEAD, "breaks text_without_nul, and is in customers.clean"),
        ([cleaned(0, 0, encode(Entity.CUSTOMERS, "clean", CLEAN_ID, age=2)), *CLEAN[1:]], DEAD,
         "age expected 1, found 2"),
        ([CLEAN[0], cleaned(1, 1, encode(Entity.CUSTOMERS, "clean", CLEAN_ID)), CLEAN[2]], DEAD,
         "email expected 'Unknown', found 'x'"),
        ([cleaned(0, 0, id=b"2"), *CLEAN[1:]], DEAD, "key expected b'1', found b'2'"),
        ([cleaned(0, 0, stamp=5), *CLEAN[1:]], DEAD, f"ts expected {NOW_MS * 1000}, found 5000"),
        ([*CLEAN, cleaned(3, 50)], DEAD, "customers.clean/0@3: has no raw record"),
        ([*CLEAN, Record(3, GOOD)], DEAD, "customers.clean/0@3: has no raw record"),
        (CLEAN, [letter(0, 2, BAD + b"!", "text_without_nul")], "body expected"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul", id=b"9")], "key expected b'1', found b'9'"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul,key_matches")],
         "rules expected 'text_without_nul', found 'key_matches,text_without_nul'"),
        (CLEAN, [*DEAD, letter(1, 70, BAD, "text_without_nul")], "customers.dlq/0@1: has no raw record"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul", stamp=5)], "ts expected 20"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul", stage="VALUE_CONVERTER")],
         "stage expected 'TRANSFORMATION', found 'VALUE_CONVERTER'"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul", **{"exception.class.name": "Exception"})],
         "exception expected 'retail_stream.errors.Rejected', found 'Exception'"),
        (CLEAN, [letter(0, 2, BAD, "text_without_nul", **{"exception.message": "bad"})],
         "message expected 'customers record breaks: text_without_nul', found 'bad'"),
    ],
)  # fmt: skip
def test_a_record_out_of_place_or_changed_is_named(engine, clean, dead, words):
    checks = check(engine, clean, dead)
    failed = [c for c in checks if not c.ok]
    assert failed
    assert any(words in e for c in failed for e in c.examples), failed


def test_a_letter_without_payload_names_its_record(engine):
    large = letter(1, 0, None, "size_forwardable", id=None)
    large.heads.append(("payload", b"in raw topic"))
    bad = letter(0, 2, None, "text_without_nul", id=None)
    bad.heads.append(("payload", b"in raw topic"))
    assert all(c.ok for c in check(engine, CLEAN[1:], [bad, large]))
    assert not all(c.ok for c in check(engine, CLEAN[1:], [letter(0, 2, None, "text_without_nul", id=None), large]))


def test_a_schema_that_was_registered_later_is_an_older_verdict(engine):
    why = {"exception.message": "schema id 3 is not registered under the topic's subject"}
    unknown = letter(1, 0, GOOD, "valid_avro", stage="VALUE_CONVERTER", **why)
    assert all(c.ok for c in check(engine, CLEAN[1:], [*DEAD, unknown]))


def test_only_values_whose_bytes_changed_are_decoded_again(engine):
    entity = Entity.SALES
    decoders = (Decoder(layout(topics.raw(entity)), {RAW_ID: schema(k, entity)}) for k in ("raw", "clean"))
    raw, clean = decoders
    sale, other = encode(entity), encode(entity, quantity=2)
    RawTable(engine, entity, raw, BOOKS[entity]).take([Record(0, sale), Record(1, sale)])
    CleanTable(engine, entity).take([cleaned(0, 0, sale), cleaned(1, 1, other)])
    recode(engine, entity, raw, clean)
    assert engine.execute('SELECT "offset", quantity FROM recoded_sales').fetchall() == [(1, 2)]
