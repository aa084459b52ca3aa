"""`schemas/windows.toml`: what may stand there, and the sentence for what may not."""

from pathlib import Path

import pytest

from retail_stream.errors import SettingsError
from retail_stream.settings import load
from services.aggregator import declared, outbox, settings
from services.aggregator.declared import FILE, MEASURES, USUAL, Aggregation, Declarations
from services.aggregator.step import Rules
from services.aggregator.windows import parse

SHIPPED = FILE.read_text()


def loaded(folder: Path, text: str) -> Declarations:
    path = folder / "windows.toml"
    path.write_text(text)
    return declared.load(path)


def test_the_file_that_ships_declares_stores_and_products() -> None:
    assert declared.load() == USUAL
    assert USUAL.text == "product by product_id; store by store_id"


def test_an_entry_is_stored_in_one_canonical_line(tmp_path: Path) -> None:
    entries = loaded(
        tmp_path,
        f"""{SHIPPED}
        [card]
        by = "payment_method"
        measures = ["taxes", "transactions"]
        windows = "1h , 5m/1m"
        [sale]
        by = "transaction_id"
        [visit]
        by = "customer_id"
        session = "30m"
        [brand]
        by = "products.brand"
        """,
    )
    card, sale, visit = entries.aggregations[2:]
    assert [(w.name, w.is_session) for w in visit.windows_or(())] == [("30m", True)]
    assert (card.table, card.holds) == ("sales_by_card_window", "string")
    assert (sale.table, sale.holds, sale.measures) == ("sales_by_sale_window", "long", MEASURES)
    further = "card by payment_method measures transactions,taxes windows 5m/1m,1h; sale by transaction_id"
    further += "; visit by customer_id session 30m"
    assert entries.text == f"{USUAL.text}; {further}"
    (brand,) = entries.views
    assert (brand.table, brand.text) == ("sales_by_brand_window", "brand by products.brand over product by product_id")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("[x]\nby = 'nothing'", "entry x: by='nothing' is not a column to group by; allowed are transaction_id"),
        ("[x]\nby = 'unit_price'", "by='unit_price' is not a column to group by; allowed are"),
        ("[x]\nby = 'event_time'", "by='event_time' is not a column to group by; allowed are"),
        ("[x]\nwindows = '1m'", "by is missing; allowed are transaction_id"),
        ("[x]\nby = 1", "by is missing; allowed are transaction_id"),
        ("[x]\nby = 'store_id'\nslide = '1m'", "'slide' is not known; allowed are by, measures, windows"),
        ("[x]\nby = 'store_id'\nwindows = '1x'", "windows='1x' has the part '1x', which is not a size"),
        ("[x]\nby = 'store_id'\nwindows = 60", "windows=60 has the part '', which is not a size"),
        ("[x]\nby = 'store_id'\nmeasures = 'taxes'", "measures is not a list of names; allowed are transactions"),
        ("[x]\nby = 'store_id'\nmeasures = []", "measures is not a list of names; allowed are transactions"),
        ("[x]\nby = 'store_id'\nmeasures = ['profit']", "measures has 'profit', which is not one; allowed are"),
        ("[x]\nby = 'store_id'\nmeasures = ['net_sales']", "measures has net_sales, which needs gross_sales; allowed"),
        ("[x]\nby = 'store_id'\nsession = '30m/5m'", "entry x: session='30m/5m' is not a gap in s, m, h or d"),
        ("[x]\nby = 'store_id'\nsession = 30", "session=30 is not a gap in s, m, h or d; allowed is a gap like '30m'"),
        ("[x]\nby = 'store_id'\nsession = '367d'", "session='367d' is longer than 366d; allowed is a gap like '30m'"),
        ("[x]\nby = 'store_id'\nsession = '30m'\nwindows = '1h'", "it has windows and session; allowed is one of them"),
        ("[x]\nby = 'products.brand'\nsession = '30m'", "session is not for a view; allowed is only by"),
        (
            "[x]\nby = 'customers.gender'\n[y]\nby = 'customer_id'\nsession = '30m'",
            "a view by an attribute of customers needs an entry by customer_id without session; add one",
        ),
        ("[X]\nby = 'store_id'", "entry X: the name is not valid; allowed are a-z, 0-9 and _"),
        (f"[{'x' * 31}]\nby = 'store_id'", "the name is not valid; allowed are a-z, 0-9 and _, at most 30"),
        ("[category]\nby = 'store_id'", "sales_by_category_window is there already; choose another name"),
        ("[x]\nby = 'brands.name'", "by='brands.name' is not of a dimension; allowed are customers, products, stores"),
        ("[x]\nby = 'sales.payment_method'", "is not of a dimension; allowed are customers, products, stores"),
        ("[x]\nby = 'products.price'", "by='products.price' is not a text of products; allowed are name, category"),
        ("[x]\nby = 'products.brand'\nwindows = '1h'", "windows is not for a view; allowed is only by"),
        ("[x]\nby = 'customers.gender'", "a view by an attribute of customers needs an entry by customer_id without"),
        ("x = 1", "entry x: it is not a table; allowed are by, measures, windows"),
        ("[x]\nby = 'store_id'\n[x]\nby = 'store_id'", "is not valid TOML: "),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_one_sentence_that_names_it_and_what_is_allowed(
    tmp_path: Path, entry: str, words: str
) -> None:
    text = f"{entry}\n{SHIPPED}" if entry == "x = 1" else f"{SHIPPED}\n{entry}"
    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, text)
    assert str(refused.value).startswith("schemas/windows.toml")
    assert words in str(refused.value)
    assert str(refused.value).endswith(".")


def test_the_entries_of_the_contract_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no entry store; allowed: all of product, store, and further ones"):
        loaded(tmp_path, "[product]\nby = 'product_id'")
    with pytest.raises(
        SettingsError, match="entry product: it is part of the contract; allowed is only by='product_id'"
    ):
        loaded(tmp_path, "[store]\nby = 'store_id'\n[product]\nby = 'product_id'\nwindows = '1h'")
    with pytest.raises(SettingsError, match=r"schemas/windows.toml cannot be read: No such file"):
        declared.load(tmp_path / "none.toml")


def test_a_size_has_one_slide_in_all_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = "\n[x]\nby = 'customer_id'\nwindows = '5m/1m'\n[y]\nby = 'customer_id'\nwindows = '5m'"
    with pytest.raises(
        SettingsError, match="entry y: windows='5m' has '5m' beside '5m/1m' of SALES_WINDOWS or another"
    ):
        loaded(tmp_path, SHIPPED + two)
    with pytest.raises(SettingsError, match="entry y: session='5m' has '5m' beside '5m/1m' of SALES_WINDOWS or ano"):
        loaded(tmp_path, SHIPPED + two.replace("windows = '5m'", "session = '5m'"))
    one = tmp_path / "one.toml"
    one.write_text(f"{SHIPPED}\n[x]\nby = 'customer_id'\nwindows = '5m/1m'")
    monkeypatch.setattr(declared, "FILE", one)
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "h:1", "SCHEMA_REGISTRY_URL": "http://h", "DATABASE_URL": "postgresql://h/d",
        "SALES_WINDOWS": "5m",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    config = load(settings.AggregatorSettings)
    with pytest.raises(SettingsError, match="entry x: windows='5m/1m' has '5m/1m' beside '5m' of SALES_WINDOWS"):
        _ = config.shaping


def test_other_entries_than_the_stored_ones_are_one_sentence() -> None:
    stored = {declared.NAME: USUAL.text}
    settings.compare(stored, {declared.NAME: USUAL.text})
    with pytest.raises(
        SettingsError,
        match=r"^schemas/windows.toml declares 'a': the warehouse was computed with 'product by .*; allowed: that",
    ):
        settings.compare(stored, {declared.NAME: "a"})


def test_only_further_entries_have_a_schema_of_their_own() -> None:
    further = Declarations((*USUAL.aggregations, Aggregation("pay", "payment_method", "string", windows="1h")))
    assert outbox.further_schema(USUAL) is None
    rules = Rules(parse("1m"), 0, 0, further)
    schema = outbox.further_schema(further)
    assert schema is not None
    assert schema["fields"][-1] == {"name": "payment_method", "type": ["null", "string"], "default": None}
    assert [w.text for w in rules.windows] == ["1m", "1h"]
