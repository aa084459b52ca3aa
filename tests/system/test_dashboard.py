"""The page in a real browser, beside a running pipeline: what it shows is what Postgres and the topics hold.

One story in the order of this file: live, then drained and compared, then with things taken away.
"""

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from commands.dashboard.settings import DashboardSettings
from commands.dashboard.warehouse import reader
from commands.demo.pipeline import Service
from commands.dlq.counts import count_by_rule
from commands.embedded.servers import Server
from commands.embedded.settings import free_ports
from commands.init import migrate
from retail_stream import topics
from retail_stream.entities import Entity
from retail_stream.kafka.reading import read_to_end
from retail_stream.topics import Result
from tests.harness.eventually import eventually
from tests.system.browser import Visit, chromium
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
#: What makes a page wider than its window, if it is.
TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const clipped = e => e && (getComputedStyle(e).overflowX !== "visible" || clipped(e.parentElement));
    return [...document.body.querySelectorAll("*")]
        .filter(e => e.getBoundingClientRect().right > width && !clipped(e.parentElement))
        .map(e => e.outerHTML.slice(0, 100));
}"""


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


def wait_until_served(url: str) -> None:
    def answers() -> bool:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return answer.status == 200

    eventually(answers, "the dashboard listens", retry_on=OSError)


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def rows(running: Running, query: str, **asked: Any) -> list[Any]:
    with running.warehouse.connect() as connection:
        return list(connection.execute(text(query), asked))


def shown(page: Page, table: str) -> list[list[str]]:
    return page.eval_on_selector_all(
        f"{table} tbody tr", "rows => rows.map(r => [...r.children].map(c => c.innerText))"
    )


def become_the_same(shown: Callable[[], object], wanted: Callable[[], object]) -> None:
    """Look at both sides until they are the same: the page is a second behind."""
    eventually(lambda: shown() == wanted(), lambda: f"the page shows {wanted()}; it shows {shown()}", every_s=0.5)


def test_what_flows_is_seen_without_reloading(page: Page, running: Running) -> None:
    for service in Service:
        expect(page.locator(f"[data-service={service}]")).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)
    expect(page.locator("[data-service=warehouse] .state")).to_have_text("answers")
    for arrow in ("raw", "clean_sales", "clean_dimensions"):
        expect(page.locator(f"[data-rate={arrow}]")).to_have_text(re.compile(r"[1-9]\d*(\.\d)?/s"), timeout=PATIENCE_MS)
    expect(page.locator("[data-watermark=time]").first).to_have_text(re.compile(r"\d\d:\d\d:\d\d UTC"))
    before = page.locator("#connection").inner_text()
    expect(page.locator("#connection")).not_to_have_text(before)
    # All three states are shown, and revisions appear on the open page.
    page.locator("[data-size='5s'] summary").click()
    for state in ("open", "fired", "final"):
        expect(page.locator("[data-size='5s'] tbody tr", has_text=state).first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("[data-size='5s'] tr.new").first).to_be_attached(timeout=PATIENCE_MS)


@pytest.mark.long
def test_a_dark_page_a_phone_and_a_light_one_are_accessible(browser: Browser, url: str, running: Running) -> None:
    for options in (
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
    ):
        context = browser.new_context(**options)
        visit = Visit(context)
        visit.page.goto(url)
        expect(visit.page.locator("#rules tbody tr").first).to_be_visible(timeout=PATIENCE_MS)
        expect(visit.page.locator("[data-size='5s'] canvas")).to_be_visible(timeout=PATIENCE_MS)
        show_history(visit.page, "stores", "1")
        report = Axe().run(visit.page)
        serious = [v for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
        violations = [(v["id"], [node["html"][:200] for node in v["nodes"]][:3]) for v in serious]
        assert violations == [], options
        assert visit.page.evaluate(TOO_WIDE) == [], options
        assert visit.errors == []
        context.close()


def show_history(page: Page, entity: str, words: str) -> None:
    """By keyboard alone."""
    page.locator("#history-form select").focus()
    page.keyboard.type(entity)
    page.keyboard.press("Tab")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    first = page.locator("#found button").first
    first.wait_for()
    first.focus()
    page.keyboard.press("Enter")
    page.locator(".versions li").first.wait_for()


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
        details = page.locator(f"[data-size='{size}'] details")
        if details.get_attribute("open") is None:
            details.locator("summary").click()
        become_the_same(
            partial(shown, page, f"[data-size='{size}']"),
            partial(windows, interval),
        )
    late = sum(1 for _ in read_to_end(running.connections, Result.LATE))
    become_the_same(lambda: page.locator("[data-total=late]").last.inner_text(), lambda: f"{late:,}")
    # The first arrow counts records; the logs' ends would count the markers of transactions, too.
    raw = sum(1 for e in Entity for _ in read_to_end(running.connections, topics.raw(e)))
    assert running.status().produced == raw
    # The page may have looked just before the cleaner's last commit.
    become_the_same(lambda: get(f"{page.url}api/look")[1]["flow"]["raw"]["total"], lambda: raw)
    # Both the newest sales and the page's bars hold what the topic holds.
    _, look = get(f"{page.url}api/look")
    assert sum(look["delays"]["counts"]) == look["delays"]["sampled"] > 1000
    bars = [int(cells[1].replace(",", "")) for cells in shown(page, "#delays")]
    assert bars == look["delays"]["counts"]


def test_rejects_are_those_of_the_dead_letter_topics(page: Page, running: Running) -> None:
    counted = {(c.entity.value, c.rule): f"{c.count:,}" for c in count_by_rule(running.connections)}
    assert counted

    def rejects() -> dict[tuple[str, str], str]:
        return {(e, rule): n for e, rule, action, n in shown(page, "#rules") if action == "reject"}

    become_the_same(rejects, lambda: counted)
    page.select_option("#letters-filter select", "sales")
    expect(page.locator("#letters tbody tr").first).to_contain_text("sales.raw/")
    page.locator("#letters summary").first.click()
    expect(page.locator("#letters details[open] pre").last).to_contain_text(re.compile(r"\d+ bytes: [0-9a-f]+"))
    # What has the focus is the same element after the next answer of the server.
    page.locator("#letters summary").first.focus()
    with page.expect_response(re.compile("api/letters")):
        page.evaluate("document.querySelector('#letters-filter').dispatchEvent(new Event('change'))")
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.locator("#letters details[open]").count() == 1


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
    assert page.locator(".line button:not(.gap)").count() == len(versions)


@pytest.mark.parametrize(
    ("path", "status", "names"),
    [
        ("api/history/customers/2147483647", 404, "customer 2147483647"),
        ("api/history/customers/1;DROP TABLE dim_customers", 400, "1;DROP TABLE"),
        ("api/history/customers/99999999999999999999", 400, "2147483647"),
        ("api/history/sales/1", 404, "customers, products, stores"),
        ("api/history/customers/1?as_of=now", 400, "as_of"),
        ("api/keys/products?limit=1000000", 400, "from 1 to 50"),
        ("api/keys/products?q=" + "x" * 101, 400, "100 printable"),
        ("api/keys/products?q=%00", 400, "printable"),
        ("api/letters?limit=-1", 400, "from 1 to 200"),
        ("api/letters?limit=1e3", 400, "'1e3'"),
        ("api/letters?entity=orders", 404, "sales, customers"),
        ("api/letters?limit=1&limit=2", 400, "once each"),
        ("api/nothing", 404, "Not Found"),
        ("static/../settings.py", 404, "Not Found"),
    ],
)
def test_bad_input_gets_one_sentence(url: str, path: str, status: int, names: str) -> None:
    code, answer = get(f"{url}/{path}".replace(" ", "%20"))
    assert (code, list(answer)) == (status, ["error"])
    assert names in answer["error"]
    assert "\n" not in answer["error"]


def test_what_looks_like_sql_or_markup_is_text(page: Page, url: str) -> None:
    assert get(f"{url}/api/keys/products?q=%25%27%20OR%20true%20--") == (200, [])
    page.fill("#history-form input", "<img src=x onerror=alert(1)>")
    page.locator("#history-form button").click()
    expect(page.locator("#versions .empty")).to_contain_text("<img src=x")
    page.fill("#history-form input", "")


def test_other_methods_and_other_names_of_the_host_are_refused(url: str) -> None:
    for request in (
        urllib.request.Request(f"{url}/api/look", method="POST"),
        urllib.request.Request(f"{url}/api/look", headers={"Host": "evil.example"}),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert 400 <= refused.value.code < 500


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM dim_customers", "CREATE TABLE mine (x int)", "UPDATE pipeline.stream_watermark SET watermark = NULL"],
)
def test_its_database_role_can_only_read(running: Running, statement: str) -> None:
    engine = reader(DashboardSettings(**running.connections.model_dump()))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM fact_sales")).scalar_one() > 0
        # Even where a session forgets that it is for reading.
        connection.rollback()
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text(statement))
    engine.dispose()


def test_a_service_that_is_killed_shows_within_five_seconds(page: Page, running: Running) -> None:
    running.pipeline.processes[Service.SCD_MERGER].kill()
    box = page.locator("[data-service=scd_merger]")
    expect(box).to_have_attribute("data-state", "down", timeout=5_000)
    expect(box.locator(".state")).to_have_text("down")
    running.pipeline.start(Service.SCD_MERGER)
    expect(box).to_have_attribute("data-state", "ready", timeout=PATIENCE_MS)


def test_servers_that_are_away_are_named_and_the_rest_stays(page: Page, running: Running) -> None:
    running.stack.kill(Server.POSTGRES)
    expect(page.locator("#problems")).to_contain_text("Postgres at", timeout=PATIENCE_MS)
    expect(page.locator("[data-service=warehouse] .state")).to_have_text("does not answer")
    assert shown(page, "[data-size='5s']"), "what was known is still shown"
    running.stack.start(Server.POSTGRES)
    running.stack.wait_ready(Server.POSTGRES)
    expect(page.locator("#problems")).to_be_empty(timeout=PATIENCE_MS)


def test_a_server_that_is_frozen_is_named(page: Page, running: Running) -> None:
    with psycopg.connect(running.connections.database_url, autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        backends = [pid for (pid,) in connection.execute(query)]
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        expect(page.locator("#problems")).to_contain_text("no answer for more than 5 s", timeout=PATIENCE_MS)
        expect(page.locator("[data-service=warehouse] .state")).to_have_text("does not answer")
        assert get(f"{page.url}api/look")[0] == 200
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    expect(page.locator("#problems")).to_be_empty(timeout=PATIENCE_MS)


def test_without_any_data_the_page_says_so(browser: Browser, running: Running) -> None:
    """Another database, in which nothing was ever stored, and services that were never started."""
    with psycopg.connect(running.connections.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE nothing")
    server, _, _ = running.connections.database_url.rpartition("/")
    empty = running.connections.model_copy(update={"database_url": f"{server}/nothing"})
    migrate(empty)
    pipeline = running.twin("empty")
    url = pipeline.start_dashboard(free_ports(1)[0], DATABASE_URL=empty.database_url)
    wait_until_served(url)
    context = browser.new_context()
    visit = Visit(context)
    visit.page.goto(url)
    for service in Service:
        expect(visit.page.locator(f"[data-service={service}] .state")).to_have_text("down", timeout=PATIENCE_MS)
    expect(visit.page.locator("#window-charts .empty")).to_have_text("No windows yet.")
    expect(visit.page.locator("[data-watermark=time]").first).to_have_text("none yet")
    assert visit.errors == []
    assert pipeline.dashboard is not None
    pipeline.dashboard.terminate()
    assert pipeline.dashboard.wait(30) == 0
    context.close()
