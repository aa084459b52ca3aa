"""The page in a real browser over made-up snapshots: accessible, never too wide, and alive when a part of it fails."""

import re
import shlex
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route, expect

from tests.harness.page_states import LONG, SHELL, STATES, served
from tests.system.browser import Visit, chromium, show_history

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


def version(start: str, end: str | None, changed: dict[str, str] | None) -> dict[str, object]:
    sold = {"sales": 3, "units": 5, "total_amount": "99.50"}
    fields = {"name": "Lisboa", "manager": "Ana"}
    return {
        "valid_from": start,
        "valid_to": end,
        "is_current": end is None,
        "fields": fields,
        "changed": changed,
        **sold,
    }


#: Three versions of a store, which was closed for a day.
VERSIONS = [
    version("2026-11-05T00:00:00+00:00", None, {"manager": "Unknown"}),
    version("2026-11-02T00:00:00+00:00", "2026-11-04T00:00:00+00:00", {"name": "Lissabon"}),
    version("2026-11-01T00:00:00+00:00", "2026-11-02T00:00:00+00:00", None),
]
HISTORY = {"entity": "stores", "id": 1, "versions_total": 3, "versions": VERSIONS, "sales_counted": True,
           "sales_without_version": 2}  # fmt: skip


def settled(visit: Visit) -> None:
    expect(visit.page.locator("#verdict .verdict")).to_be_visible()
    expect(visit.page.locator("#record-list tbody tr").first).to_be_visible()


def test_no_element_is_inaccessible_in_light_in_dark_or_on_a_phone(browser: Browser) -> None:
    with served("killed") as url:
        for options in (
            {"color_scheme": "light"},
            {"color_scheme": "dark"},
            {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
        ):
            context = browser.new_context(**options, reduced_motion="reduce")
            visit = Visit(context)
            visit.page.route("**/api/keys/*", lambda route: route.fulfill(json=[{"id": 1, "name": "Lisboa"}]))
            visit.page.route("**/api/history/*/*", lambda route: route.fulfill(json=HISTORY))
            visit.page.goto(url)
            settled(visit)
            show_history(visit.page, "stores", "1")
            expect(visit.page.locator(".versions li")).to_have_count(3)
            expect(visit.page.locator(".line .gap")).to_have_count(1)
            expect(visit.page.locator("#windows canvas")).to_be_visible()
            for summary in ("#windows summary", "#letter-list summary >> nth=0", "#record-list summary >> nth=0"):
                visit.page.locator(summary).click()
            # Else axe describes each element that passes, too, which takes ten times as long as its rules.
            report = Axe().run(visit.page, options={"resultTypes": ["violations"]})
            serious = [v for v in report.response["violations"] if v["impact"] in ("serious", "critical")]
            violations = [(v["id"], [node["html"][:200] for node in v["nodes"]][:3]) for v in serious]
            assert violations == [], options
            assert visit.errors == []
            context.close()


@pytest.mark.parametrize("state", STATES)
def test_no_state_is_too_wide_or_fails_in_the_console(browser: Browser, state: str) -> None:
    verdict = {"well": "All is well", "first minute": "All is well"}.get(state, "Something is wrong")
    with served(state) as url:
        context = browser.new_context()
        visit = Visit(context)
        visit.page.goto(url)
        settled(visit)
        expect(visit.page.locator("#verdict")).to_contain_text(re.compile(f"{verdict} *since"))
        for width in (1440, 1024, 390, 320):
            visit.page.set_viewport_size({"width": width, "height": 900})
            assert visit.page.evaluate(TOO_WIDE) == [], width
        assert visit.page.locator(".failed").count() == 0
        assert (visit.errors, visit.hosts) == ([], {"127.0.0.1"})
        context.close()


def test_a_panel_whose_module_does_not_load_says_so_and_the_others_live(browser: Browser) -> None:
    with served("well") as url:
        context = browser.new_context()
        visit = Visit(context)
        visit.page.route("**/panels/lateness.js*", lambda route: route.abort())
        visit.page.goto(url)
        expect(visit.page.locator("#lateness [role=alert]")).to_contain_text("This panel failed")
        settled(visit)
        expect(visit.page.locator("#rules tbody tr").first).to_be_visible()
        visit.page.unroute("**/panels/lateness.js*")
        visit.page.locator("#lateness button").click()
        expect(visit.page.locator("#delays li").first).to_be_attached()
        context.close()


def test_what_an_earlier_search_found_is_gone_while_the_next_one_runs(browser: Browser) -> None:
    with served("well") as url:
        context = browser.new_context()
        page = Visit(context).page
        found = [{"id": 1, "name": "Lisboa"}, {"id": 2, "name": "Porto"}]
        page.route("**/api/keys/*", lambda route: route.fulfill(json=found))
        page.route("**/api/history/*/*", lambda route: route.fulfill(json=HISTORY))
        page.goto(url)
        show_history(page, "stores", "o")
        expect(page.locator("#found button")).to_have_count(2)
        held: list[Route] = []
        page.route("**/api/keys/*", lambda route: held.append(route))
        with page.expect_request("**/api/keys/*"):
            page.locator("#history-form button").click()
        # One that is pressed now would show its versions, and the answer to this search would be dropped.
        expect(page.locator("#found button")).to_have_count(0)
        held[0].fulfill(json=[{"id": 3, "name": "Faro"}])
        expect(page.locator("#found button")).to_have_text("3 Faro")
        context.close()


def test_an_entry_that_is_declared_has_its_own_sizes_measures_and_names(browser: Browser) -> None:
    rows = [
        {"start": 1e9 + 300 * i, "end": 1e9 + 300 * i + 900, "name": name, "transactions": 3 + i}
        for i in range(5)
        for name in ("<b>card</b>", "نقدا", LONG, None)
    ]
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(json=rows)

    with served("large") as url:
        context = browser.new_context(viewport={"width": 390, "height": 844})
        visit = Visit(context)
        page = visit.page
        page.route("**/api/windows?*", answer)
        page.goto(url)
        page.select_option("#windows [name=by]", "payment_method_of_the_customer")
        assert page.locator("#windows [name=size] option").all_inner_texts() == ["15m"]
        assert page.locator("#windows [name=measure] option").all_inner_texts() == ["transactions"]
        expect(page.locator("#windows .legend .key")).to_have_text(["<b>card</b>", "نقدا", LONG, "all others"])
        assert asked[0].endswith("/api/windows?size=15m&last=40&by=payment_method_of_the_customer")
        expect(page.locator("#windows canvas")).to_be_visible()
        assert page.evaluate(TOO_WIDE) == []
        page.select_option("#windows [name=by]", "state")
        expect(page.locator("#windows [name=size] option")).to_have_text(["1m"])
        assert visit.errors == []
        context.close()


def test_a_rule_that_others_wrote_is_one_word_of_the_command(browser: Browser) -> None:
    with served("large") as url:
        context = browser.new_context()
        page = Visit(context).page
        page.goto(url)
        page.select_option("#letters-filter [name=rule]", SHELL)
        command = page.locator("#letters .command code")
        expect(command).to_contain_text("--rule")
        assert shlex.split(command.inner_text()) == ["retail-stream", "dlq", "replay", "--rule", SHELL]
        context.close()


def test_a_page_that_gets_no_stream_is_brought_up_to_date_all_the_same(browser: Browser) -> None:
    with served("well") as url:
        context = browser.new_context()
        visit = Visit(context)
        visit.a_server_was_away = True
        visit.page.route("**/api/live", lambda route: route.fulfill(status=503, json={"error": "200 pages are open"}))
        visit.page.goto(url)
        settled(visit)
        expect(visit.page.locator("#connection")).to_contain_text("Live")
        before = visit.page.locator("#connection time").inner_text()
        expect(visit.page.locator("#connection time")).not_to_have_text(before)
        assert visit.errors == []
        context.close()


def test_a_panel_that_throws_says_so_and_is_drawn_again(browser: Browser) -> None:
    broken = "export default () => { throw new Error('no such figure'); };"
    with served("well") as url:
        context = browser.new_context()
        visit = Visit(context)
        visit.page.route(
            "**/panels/quality.js", lambda route: route.fulfill(body=broken, content_type="text/javascript")
        )
        visit.page.goto(url)
        expect(visit.page.locator("#quality [role=alert]")).to_contain_text("no such figure")
        settled(visit)
        # The next attempt has another address, which is not the broken one.
        expect(visit.page.locator("#rules tbody tr").first).to_be_visible()
        assert visit.errors == []
        context.close()


def test_a_server_that_is_gone_is_named_and_found_again(browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context)
    with served("well") as url:
        visit.page.goto(url)
        settled(visit)
    expect(visit.page.locator("#connection")).to_contain_text("does not answer. Trying again")
    expect(visit.page.locator("#rules tbody tr").first).to_be_visible()
    context.close()
