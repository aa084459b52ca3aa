"""The page in a real browser, beside a running pipeline: what it shows is what Postgres and the topics hold.

One story in the order of this file: live, then drained and compared, then with things taken away.
"""

import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from commands.demo.pipeline import Service
from commands.dlq.counts import count_by_rule
from commands.embedded.servers import Server
from commands.embedded.settings import free_ports
from commands.embedded.stack import Stack
from commands.status.lag import CONSUMES
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.offsets import end_offsets, topic_partitions
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Group, Result
from services.aggregator import tables
from services.aggregator.declared import USUAL, Declarations, View
from tests.system.browser import Visit, become_the_same, chromium, get, show_history, shown, wait_until_served
from tests.system.conftest import Running

SETTINGS = {
    "GENERATOR_SALES_PER_S": "200",
    "GENERATOR_CHANGES_PER_S": "20",
    "SALES_WINDOWS": "5s,20s/5s",
    "WATERMARK_DELAY_S": "3",
    "ALLOWED_LATENESS_S": "10",
    "LATENCY_MAX_S": "30",
    "GENERATOR_FAULT_LATE_EVENT": "0.1",
}
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def url(browser: Browser, running: Running) -> str:
    return running.pipeline.start_dashboard(free_ports(1)[0])


@pytest.fixture(scope="module")
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context()
    visit = Visit(context)
    wait_until_served(url)
    visit.page.goto(url)
    yield visit
    context.close()


@pytest.fixture
def page(visit: Visit) -> Iterator[Page]:
    yield visit.page
    assert visit.errors == []
    assert visit.hosts == {"127.0.0.1"}


def rows(running: Running, query: str, **asked: Any) -> list[Any]:
    with running.warehouse.connect() as connection:
        return list(connection.execute(text(query), asked))


def test_what_flows_is_seen_without_reloading(page: Page, running: Running) -> None:
    for service in Service:
        expect(page.locator(f"[data-service={service}]")).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)
    expect(page.locator("[data-service=warehouse] .state")).to_have_text("answers")
    for arrow in ("raw", "clean_sales", "clean_dimensions"):
        expect(page.locator(f"[data-rate={arrow}]")).to_have_text(re.compile(r"[1-9]"), timeout=PATIENCE_MS)
    expect(page.locator("#verdict [role=status]")).to_contain_text(re.compile(r"(All is well|Worrying|wrong) *since"))
    expect(page.locator("[data-watermark=time]")).to_have_text(re.compile(r"\d\d:\d\d:\d\d UTC"))
    before = page.locator("#connection").inner_text()
    expect(page.locator("#connection")).not_to_have_text(before)
    # All three states are shown, and revisions appear on the open page.
    choose(page, "size", "5s")
    page.locator("details[data-size='5s'] summary").click()
    for state in ("open", "fired", "final"):
        expect(page.locator("details[data-size='5s'] tbody tr", has_text=state).first).to_be_visible(
            timeout=PATIENCE_MS
        )
    expect(page.locator("details[data-size='5s'] tr.new").first).to_be_attached(timeout=PATIENCE_MS)


def choose(page: Page, name: str, value: str) -> None:
    page.select_option(f"#windows [name={name}]", value)


def test_windows_and_lateness_are_those_of_postgres(page: Page, running: Running) -> None:
    running.until(lambda s: s.late > 0, "some sale is too late")
    running.drain()
    query = """
        SELECT to_char(window_start AT TIME ZONE 'UTC', 'HH24:MI:SS'),
               CASE WHEN bool_or(state = 'open') THEN 'open'
                    WHEN bool_or(state = 'fired') THEN 'fired' ELSE 'final' END,
               to_char(sum(transactions), 'FM999,999,999'), to_char(sum(gross_sales), 'FM999,999,990.00'),
               to_char(sum(returns_amount), 'FM999,999,990.00'), to_char(sum(net_sales), 'FM999,999,990.00'),
               to_char(sum(revision), 'FM999,999,990')
        FROM sales_by_window WHERE window_size = CAST(:size AS interval)
        GROUP BY window_start ORDER BY window_start DESC LIMIT 12
    """

    def windows(interval: str) -> list[list[str]]:
        return [list(map(str, row)) for row in rows(running, query, size=interval)]

    for size, interval in (("5s", "5 seconds"), ("20s/5s", "20 seconds")):
        choose(page, "size", size)
        details = page.locator(f"details[data-size='{size}']")
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        become_the_same(
            partial(shown, page, f"[data-size='{size}']"),
            partial(windows, interval),
        )
    late = sum(1 for _ in read_to_end(running.connections, Result.LATE))
    become_the_same(lambda: page.locator("[data-total=late]").inner_text(), lambda: f"{late:,}")
    assert re.fullmatch(f"{late:,} sales?", page.locator("[data-total=too-late]").inner_text())
    # The first arrow counts records; the logs' ends would count the markers of transactions, too.
    raw = sum(1 for e in Entity for _ in read_to_end(running.connections, topics.raw(e)))
    assert running.status().produced == raw
    # The page may have looked just before the cleaner's last commit.
    become_the_same(lambda: get(f"{page.url}api/look")[1]["flow"]["raw"]["total"], lambda: raw)
    # Both the newest sales and the page's bars hold what the topic holds.
    _, look = get(f"{page.url}api/look")
    assert sum(look["delays"]["counts"]) == look["delays"]["sampled"] > 1000
    bars = page.eval_on_selector_all("#delays li", "bars => bars.map(b => Number(b.dataset.count))")
    assert bars == look["delays"]["counts"]


def test_windows_of_a_group_and_a_range_are_those_of_postgres(page: Page, running: Running) -> None:
    product, store = USUAL.aggregations
    brand = View("brand", Entity.PRODUCTS, "brand", product)
    # As `init` does for an entry of schemas/windows.toml by an attribute, beside a pipeline that runs.
    with running.warehouse.begin() as connection:
        tables.make(connection, Declarations((store, product), (brand,)))
    for by, table, name in (
        ("category", "sales_by_category_window", "category"),
        ("store", "sales_by_window", "store_id"),
        ("product", "sales_by_product_window", "product_id"),
        ("brand", "sales_by_brand_window", "brand"),
    ):
        groups = rows(running, f"SELECT count(DISTINCT {name}) FROM {table}")[0][0]
        _, answered = get(f"{page.url}api/windows?size=5s&last=120&by={by}")
        assert len({r["name"] for r in answered}) == min(groups, 8)
        query = f"""
            SELECT extract(epoch FROM window_start)::float8, sum(transactions), sum(units_sold),
                   sum(gross_sales)::float8
            FROM {table} WHERE window_size = interval '5 seconds' GROUP BY 1 ORDER BY 1 DESC LIMIT 120
        """
        wanted = {start: (sales, units, pytest.approx(gross)) for start, sales, units, gross in rows(running, query)}
        sums: dict[float, tuple[int, int, float]] = {}
        for r in answered:
            sales, units, gross = sums.get(r["start"], (0, 0, 0.0))
            sums[r["start"]] = (sales + r["transactions"], units + r["units_sold"], gross + r["gross_sales"])
        assert sums == {start: wanted[start] for start in sums}
        assert len(sums) > 1
        choose(page, "size", "5s")
        page.locator(f"#windows [name=by] option[value={by}]").wait_for(state="attached")
        choose(page, "by", by)
        expect(page.locator("#windows .legend .key")).to_have_count(min(groups, 8))
    choose(page, "by", "state")
    # The values of the window under the pointer.
    over = page.locator("#windows .u-over")
    box = over.bounding_box()
    assert box is not None
    over.hover(position={"x": box["width"] * 0.5, "y": box["height"] * 0.5})
    expect(page.locator("#windows .tip")).to_contain_text(re.compile(r"gross [\d,]+\.\d\d"))


def test_records_and_partitions_are_those_of_kafka(page: Page, running: Running) -> None:
    sales = list(read_to_end(running.connections, topics.clean(Entity.SALES)))
    key = sales[-1].key()
    of_key = sorted((m for m in sales if m.key() == key), key=lambda m: (m.timestamp()[1], m.offset()), reverse=True)
    page.fill("#records [name=key]", key.decode())
    page.click("#records button:has-text('Find')")
    places = [f"{m.partition()}@{m.offset()}" for m in of_key[:20]]
    become_the_same(lambda: [r[0] for r in shown(page, "#record-list")], lambda: places)
    page.locator("#record-list summary").first.click()
    expect(page.locator("#record-list details[open]")).to_contain_text('"transaction_id"')
    _, answered = get(f"{page.url}api/records/sales.clean?partition=0&offset=3&limit=2")
    kept = [m for m in sales if m.partition() == 0 and m.offset() >= 3][:2]
    assert [r["offset"] for r in answered["records"]] == [m.offset() for m in kept]
    assert [r["key"] for r in answered["records"]] == [m.key().decode() for m in kept]

    places_of = {group: topic_partitions(running.connections, *CONSUMES[group]) for group in Group}
    ends = end_offsets(running.connections, [p for some in places_of.values() for p in some])
    wanted = [[g, t, str(p), f"{ends[t, p]:,}"] for g in Group for t, p in places_of[g]]
    become_the_same(
        lambda: sorted([*r[:3], r[5]] for r in shown(page, "#partition-list")), lambda: sorted(map(list, wanted))
    )


def test_rejects_are_those_of_the_dead_letter_topics(page: Page, running: Running) -> None:
    counted = {(c.entity.value, c.rule): f"{c.count:,}" for c in count_by_rule(running.connections)}
    assert counted

    def rejects() -> dict[tuple[str, str], str]:
        return {(e, rule): n for e, rule, action, n, _ in shown(page, "#rules") if action == "reject"}

    become_the_same(rejects, lambda: counted)
    page.select_option("#letters-filter [name=entity]", "sales")
    expect(page.locator("#letter-list tbody tr").first).to_contain_text("sales.raw/")
    page.select_option("#letters-filter [name=rule]", "discount_not_negative")
    expect(page.locator("#letters .command code")).to_have_text(
        "retail-stream dlq replay --entity sales --rule discount_not_negative"
    )
    expect(page.locator("#letter-list tbody tr").first).to_contain_text("discount_not_negative")
    page.locator("#letter-list summary").first.click()
    expect(page.locator("#letter-list details[open] pre").last).to_contain_text(re.compile(r"\d+ bytes: [0-9a-f]+"))
    # What has the focus is the same element after the next answer of the server.
    page.locator("#letter-list summary").first.focus()
    with page.expect_response(re.compile("api/letters")):
        page.evaluate("""() => {
            const most = document.querySelector("#letters-filter [name=limit]");
            most.value = "100";
            most.dispatchEvent(new Event("change", {bubbles: true}));
        }""")
    # Not wait_for_function: where it has to wait, the page's policy forbids the text that it would evaluate.
    expect(page.locator("#letter-list tbody tr")).not_to_have_count(20)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.locator("#letter-list details[open]").count() == 1


@pytest.mark.parametrize("entity", ["customers", "products", "stores"])
def test_a_history_is_that_of_postgres(page: Page, running: Running, entity: str) -> None:
    key, sk = f"{entity[:-1]}_id", f"{entity[:-1]}_sk"
    number = rows(running, f"SELECT {key} FROM dim_{entity} GROUP BY {key} ORDER BY count(*) DESC, {key} LIMIT 1")[0][0]
    versions = rows(
        running,
        f"""SELECT to_char(valid_from AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), is_current,
                   (SELECT count(*) FROM sales_enriched s WHERE s.{key} = d.{key} AND s.{sk} = d.{sk})
            FROM dim_{entity} d WHERE {key} = :number ORDER BY valid_from DESC""",
        number=number,
    )
    assert len(versions) > 1
    show_history(page, entity, str(number))
    expect(page.locator("#versions h3")).to_have_text(f"{entity[:-1]} {number}: {len(versions)} versions")
    listed = page.locator(".versions li")
    assert listed.count() == len(versions)
    for at, (valid_from, is_current, sales) in enumerate(versions):
        version = listed.nth(at).inner_text()
        assert version.startswith(valid_from)
        assert ("now, current" in version) == is_current
        assert f"{sales:,} sales as of it" in version
    assert page.locator(".line button").count() == len(versions)
    assert get(f"{page.url}api/history/{entity}/2147483647")[0] == 404


def test_what_looks_like_sql_or_markup_is_text(page: Page, url: str) -> None:
    assert get(f"{url}/api/keys/products?q=%25%27%20OR%20true%20--") == (200, [])
    page.fill("#history-form input", "<img src=x onerror=alert(1)>")
    page.locator("#history-form button").click()
    expect(page.locator("#versions .empty")).to_contain_text("<img src=x")
    page.fill("#history-form input", "")


def test_a_service_that_is_killed_shows_within_five_seconds(page: Page, running: Running) -> None:
    running.pipeline.processes[Service.SCD_MERGER].kill()
    box = page.locator("[data-service=scd_merger]")
    expect(box).to_have_attribute("data-state", "down", timeout=5_000)
    expect(box.locator(".state")).to_have_text("down")
    # Since when, what the address says, and the service's own last line.
    problem = page.locator("#problems li", has_text="SCD merger is down")
    expect(problem).to_contain_text(re.compile(r"since \d\d:\d\d:\d\d UTC"))
    expect(problem).to_contain_text("does not answer (Connection refused). Its last line: ")
    running.pipeline.start(Service.SCD_MERGER)
    expect(box).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)


def test_servers_that_are_away_are_named_and_the_rest_stays(page: Page, visit: Visit, running: Running) -> None:
    visit.a_server_was_away = True
    running.stack.kill(Server.POSTGRES)
    expect(page.locator("#problems")).to_contain_text("Postgres at", timeout=PATIENCE_MS)
    expect(page.locator("[data-service=warehouse] .state")).to_have_text("does not answer")
    assert shown(page, "details[data-size]"), "what was known is still shown"
    running.stack.start(Server.POSTGRES)
    running.stack.wait_ready(Server.POSTGRES)
    expect(page.locator("#problems")).not_to_contain_text("Postgres", timeout=PATIENCE_MS)


def test_a_server_that_is_frozen_is_named(page: Page, visit: Visit, running: Running) -> None:
    visit.a_server_was_away = True
    backends = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    with psycopg.connect(running.connections.database_url, autocommit=True) as connection:
        # The postmaster first: it would give a new connection a backend that answers.
        assert isinstance(running.stack, Stack)
        file = running.stack.home.path / "postgres/data/postmaster.pid"
        frozen = [int(file.read_text().splitlines()[0])]
        os.kill(frozen[0], signal.SIGSTOP)
        for (pid,) in connection.execute(backends):
            os.kill(pid, signal.SIGSTOP)
            frozen.append(pid)
    try:
        expect(page.locator("#problems")).to_contain_text("no answer for more than 5 s", timeout=PATIENCE_MS)
        warehouse = page.locator("[data-service=warehouse] .state")
        expect(warehouse).to_have_text("does not answer", timeout=PATIENCE_MS)
        assert get(f"{page.url}api/look")[0] == 200
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    expect(page.locator("#problems")).not_to_contain_text("Postgres", timeout=PATIENCE_MS)
