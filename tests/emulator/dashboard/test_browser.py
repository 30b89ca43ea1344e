"""The dashboard in a real browser: what people see, press and type, and that nothing leaves the machine."""

from __future__ import annotations

import json
import re
import shutil
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from schematic_native import Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from tests.conftest import eventually, streaming
from tests.servers import Answer, HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium")
ACME = {"id": "acme"}
CREDIT = "credit_inference"
HOSTILE = "<img src=x onerror=alert(1)>"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or sys.version_info >= (3, 15),
    reason="there is no chromium, or no Playwright for this Python",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not where it is skipped

    # The sandbox wants a user who is not root, which CI is.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, emulator: Emulator) -> Iterator[Page]:
    """The open page. All that it asked for was on this machine, and its script met no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(emulator.base_url)
    page.get_by_text("live", exact=True).wait_for()
    page.evaluate("window.isTheSamePage = true")
    yield page
    context.close()
    assert errors == []
    schemes = {"http": "127.0.0.1", "data": None, "blob": None}
    assert asked
    for url in asked:
        parts = urlsplit(url)
        assert parts.scheme in schemes, url
        assert schemes[parts.scheme] == parts.hostname, url


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Schematic]:
    with Schematic(emulator.api_key, SchematicConfig(**streaming(emulator))) as client:
        yield client


def is_the_same(page: Page) -> bool:
    """Tell whether the page was never loaded again."""
    return bool(page.evaluate("window.isTheSamePage === true"))


def figure(page: Page, company: str, name: str, value: str) -> Locator:
    figures = page.locator(f"[id='credit-{company}-{CREDIT}'] [data-figure={name}]")
    return figures.filter(has_text=re.compile(f"^{value}$"))


def press(page: Page, name: str, done: str | None = None) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    if done is not None:
        page.get_by_role("status").get_by_text(done, exact=True).wait_for()


def inject(page: Page, kind: str, on: str) -> None:
    page.get_by_label("What", exact=True).select_option(kind)
    page.get_by_label("Where", exact=True).select_option(on)
    page.get_by_role("button", name="Inject the fault").click()


# What happens elsewhere appears


def test_a_check_and_its_settle_appear_without_a_reload(
    page: Page, client: Schematic, emulator: Emulator
) -> None:
    result = client.check("inference", company=ACME, usage=1200)
    page.locator("#holds-rows tr").get_by_text("comp_acme").wait_for()
    figure(page, "comp_acme", "held", "10,000").wait_for()
    figure(page, "comp_acme", "remaining", "999,990,000").wait_for()
    page.locator("#clients-rows tr").get_by_text("comp_acme").wait_for()
    endpoint = page.locator("#requests-rows tr").filter(has_text="POST /billing/credits/lease")
    endpoint.get_by_text("200 x 1").wait_for()
    client.track_with_reservation(result.reservation, 950)
    client.shutdown()
    event = page.locator("#events-rows tr").filter(has_text="track inference_tokens")
    event.get_by_text("billed", exact=True).wait_for()
    event.get_by_text("950", exact=True).wait_for()
    figure(page, "comp_acme", "settled", "1,900").wait_for()
    assert is_the_same(page)
    bar = page.locator(f"[id='credit-comp_acme-{CREDIT}'] svg").get_attribute("aria-label")
    assert bar is not None
    assert bar.startswith("1,000,000,000 granted: 1,900 settled")


def test_repeats_and_anomalies_are_marked(page: Page, wire: Any) -> None:
    wire.track(1, "key")
    wire.track(1, "key")
    wire.track(1, "other", lease_id="lse_nobody")
    rows = page.locator("#events-rows tr")
    rows.nth(2).wait_for()
    outcomes = [rows.nth(place).locator(".outcome").inner_text() for place in range(3)]
    assert outcomes == [
        "anomaly: track event of an unknown lease or reservation",
        "duplicate",
        "billed",
    ]
    page.get_by_text("1 x track event of an unknown lease or reservation").wait_for()


def test_hostile_names_stay_text(page: Page, emulator: Emulator, wire: Any) -> None:
    owner = {"account_id": "a", "environment_id": "e"}
    emulator.set_flag({"id": HOSTILE, "key": HOSTILE, "default_value": True, **owner})
    emulator.set_company({"id": HOSTILE, "keys": {"id": HOSTILE}, **owner})
    wire.track(1, "key", event=HOSTILE, company={"id": HOSTILE})
    page.locator("#events-rows tr").get_by_text(f"track {HOSTILE}").wait_for()
    page.get_by_label("Flag", exact=True).select_option(HOSTILE)
    page.get_by_label("Company", exact=True).select_option(HOSTILE)
    press(page, "Check", "Checked")
    page.locator("#check-result").get_by_text(f"{HOSTILE}: true").wait_for()
    assert page.locator("img").count() == 0


# Buttons


def test_the_clock_moved_by_a_button_ends_a_lease(
    page: Page, client: Schematic, emulator: Emulator
) -> None:
    assert client.check("inference", company=ACME, usage=10).allowed
    page.locator("#holds-rows tr").get_by_text("comp_acme").wait_for()
    press(page, "+ 1 hour", "Clock moved by 1 hour")
    page.get_by_text("No lease and no reservation is open.").wait_for()
    assert {lease["status"] for lease in emulator.state()["leases"].values()} == {"expired"}
    assert is_the_same(page)


def test_a_frozen_clock_stands_and_its_countdowns_with_it(page: Page, wire: Any) -> None:
    press(page, "Freeze", "The clock is frozen")
    wire.lease(10, seconds=90)
    row = page.locator("#holds-rows tr")
    row.get_by_text("1 min 30 s").wait_for()
    page.get_by_label("Seconds to move").fill("30.5")
    press(page, "Move forward", "Clock moved")
    row.get_by_text("1 min 00 s").wait_for()
    press(page, "Resume", "The clock runs")
    row.get_by_text(re.compile(r"^(\d\d|1 min 00) s$")).wait_for()


def test_a_fault_injected_by_a_button_shows_in_the_clients_status(
    page: Page, client: Schematic, emulator: Emulator
) -> None:
    inject(page, "status", "acquire")
    page.locator("#faults-rows tr").get_by_text("1: status 503").wait_for()
    assert not client.check("inference", company=ACME, usage=10).allowed
    error = client.status().last_error
    assert error is not None
    assert "503" in error
    press(page, "Heal fault 1", "Fault 1 healed")
    page.get_by_text("None is in force.").wait_for()
    eventually(lambda: client.check("inference", company=ACME, usage=10).allowed)


def test_dropped_sockets_are_connected_anew(
    page: Page, client: Schematic, emulator: Emulator
) -> None:
    assert client.check_flag("beta", ACME) in {True, False}
    row = page.locator("#clients-rows tr")
    row.wait_for()
    first = row.get_attribute("id")
    press(page, "Drop the sockets", "Sockets dropped")
    eventually(lambda: emulator.state()["requests"]["datastream"] == 2)
    page.locator(f"#clients-rows tr:not([id='{first}'])").wait_for()
    eventually(lambda: client.status().connected)


def test_a_page_whose_port_refuses_goes_on_at_the_control_port(
    page: Page, emulator: Emulator
) -> None:
    inject(page, "refuse", "any")
    page.wait_for_url(lambda url: urlsplit(url).port != emulator.port)
    press(page, "Heal fault 1", "Fault 1 healed")
    page.goto(emulator.base_url)


def test_a_balance_is_set(page: Page, client: Schematic, emulator: Emulator) -> None:
    assert not client.check("inference", company={"id": "none"}, usage=10).allowed
    form = page.locator(f"[id='balance-comp_none-{CREDIT}']")
    form.get_by_label("Remaining").fill("12.5")
    form.get_by_role("button", name="Set balance").click()
    figure(page, "comp_none", "remaining", "12.5").wait_for()
    eventually(lambda: client.get_credit_balance({"id": "none"}, CREDIT).remaining == 12.5)


def test_an_entity_is_edited(page: Page, client: Schematic, emulator: Emulator) -> None:
    assert client.check_flag("beta", {"id": "few"}) is True
    press(page, "Edit flag flag_beta")
    text = page.get_by_label("Edit flag flag_beta").get_by_role("textbox")
    flag = json.loads(text.input_value())
    text.fill("{}")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("flag.id: missing").wait_for()
    text.fill("{")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("JSON").wait_for()
    text.fill(json.dumps({**flag, "rules": [], "default_value": False}))
    page.get_by_role("button", name="Save").click()
    page.get_by_role("status").get_by_text("Saved flag flag_beta").wait_for()
    eventually(lambda: client.check_flag("beta", {"id": "few"}) is False)


def test_an_entity_is_deleted_once_that_is_confirmed(page: Page, emulator: Emulator) -> None:
    press(page, "Delete company comp_few")
    page.get_by_role("button", name="Cancel").click()
    press(page, "Delete company comp_over")
    page.get_by_role("button", name="Yes").click()
    page.get_by_role("status").get_by_text("Deleted company comp_over").wait_for()
    page.locator("[id='company-comp_over']").wait_for(state="detached")
    assert page.locator("[id='company-comp_few']").count() == 1
    assert emulator.state()["companies"]["comp_few"]["keys"]


def test_a_saved_seed_starts_another_emulator(page: Page, wire: Any) -> None:
    lease = wire.lease(100)
    wire.track(10, "key", lease_id=lease)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as a seed").click()
    with Emulator(download.value.path(), process=False) as another:
        company = another.state()["companies"]["comp_acme"]
        assert company["balances"][CREDIT] == 1_000_000_000 - 20
        assert company["metrics"][0]["value"] == 10


def test_a_reset_begins_anew(page: Page, client: Schematic, emulator: Emulator, wire: Any) -> None:
    balance = client.get_credit_balance({"id": "few"}, CREDIT).remaining
    emulator.set_balance("comp_few", CREDIT, 3)
    emulator.fail("delay", on="extend")
    wire.track(10, "key")
    eventually(lambda: client.get_credit_balance({"id": "few"}, CREDIT).remaining == 3)
    figure(page, "comp_few", "remaining", "3").wait_for()
    press(page, "Reset")
    page.get_by_role("button", name="Yes").click()
    figure(page, "comp_few", "remaining", "50").wait_for()
    page.locator("#events").get_by_text("None yet.").wait_for()
    page.get_by_text("None is in force.").wait_for()
    eventually(lambda: client.get_credit_balance({"id": "few"}, CREDIT).remaining == balance)


def test_a_check_that_is_tried_shows_its_trace(page: Page) -> None:
    page.get_by_label("Flag", exact=True).select_option(label="inference")
    page.get_by_label("Company", exact=True).select_option("comp_few")
    page.get_by_label("Usage (units)").fill("26")
    press(page, "Check", "Checked")
    result = page.locator("#check-result")
    result.get_by_text("inference: false").wait_for()
    assert "fails" in result.inner_text()
    assert "(found: 50 credits left)" in result.inner_text()
    result.locator(".decides").get_by_text("Pro plan, credits spent").wait_for()


def test_what_is_refused_is_told(page: Page) -> None:
    page.get_by_label("Times").fill("3")
    inject(page, "refuse", "any")
    page.get_by_role("status").get_by_text("times: expected nothing").wait_for()


ATTACK = """async ([target, paths]) => {
  const ends = [];
  for (const path of paths) {
    for (const type of ["text/plain", "application/json", "application/x-www-form-urlencoded"]) {
      for (const mode of ["no-cors", "cors"]) {
        ends.push(fetch(target + path, {
          method: "POST", mode, headers: { "content-type": type }, body: '{"kind": "drop", "advance": 9999}',
        }).then((answer) => `${answer.type} ${answer.status}`, () => "refused"));
      }
    }
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: target + path, target: "frame", enctype: "text/plain" });
    form.innerHTML = `<input name='{"kind": "drop", "x": "' value='"}'>`;
    document.body.append(form);
    form.submit();
  }
  return Promise.all(ends);
}"""


def test_a_page_from_elsewhere_can_neither_command_nor_read_nor_frame_it(
    browser: Browser, emulator: Emulator, wire: Any
) -> None:
    lease = wire.lease(10)
    hostile = Answer(
        body=b"<!doctype html><body><iframe name=frame></iframe>",
        headers={"Content-Type": "text/html"},
    )
    with HttpServer(otherwise=hostile) as elsewhere:
        page = browser.new_page()
        page.goto(elsewhere.url.replace("127.0.0.1", "localhost"))
        paths = ["fail", "reset", "clock", "drop-sockets", "dashboard/check"]
        ends = page.evaluate(ATTACK, [emulator.base_url, [f"/_emulator/{name}" for name in paths]])
        # An opaque answer cannot be read; it was a refusal.
        assert set(ends) == {"opaque 0", "refused"}
        read = "url => fetch(url).then((answer) => answer.text(), () => 'refused')"
        assert page.evaluate(read, f"{emulator.base_url}/_emulator/state") == "refused"
        page.locator("iframe").evaluate("(frame, url) => (frame.src = url)", emulator.base_url)
        assert page.frame("frame") is not None
        assert page.frame_locator("iframe").get_by_role("heading", name="Schematic").count() == 0
        page.close()
    state = emulator.state()
    assert list(state["leases"]) == [lease]
    assert state["leases"][lease]["status"] == "active"
    assert emulator.faults() == []


# For everybody


def test_a_keyboard_is_enough(page: Page, emulator: Emulator, wire: Any) -> None:
    wire.lease(10)
    page.locator("#holds-rows tr").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "+ 1 hour":
            break
    page.keyboard.press("Enter")
    page.get_by_text("No lease and no reservation is open.").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "+ 1 hour"


def test_what_is_typed_and_where_one_is_survive_news(page: Page, emulator: Emulator) -> None:
    form = page.locator(f"[id='balance-comp_few-{CREDIT}']")
    form.get_by_label("Remaining").fill("77")
    emulator.set_balance("comp_few", CREDIT, 40)
    figure(page, "comp_few", "remaining", "40").wait_for()
    assert form.get_by_label("Remaining").input_value() == "77"
    assert page.evaluate("document.activeElement.name") == "amount"
    page.keyboard.press("Enter")
    figure(page, "comp_few", "remaining", "77").wait_for()


def test_every_control_has_a_name_and_every_id_is_one_elements(page: Page, wire: Any) -> None:
    wire.lease(10)
    wire.track(1, "key")
    page.locator("#events-rows tr").wait_for()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input:not([type=hidden]), select, textarea, svg")]
        .filter((each) => !(each.labels?.length || each.getAttribute("aria-label")
            || each.getAttribute("aria-labelledby") || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    headings = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((each) => Number(each.tagName[1]))"
    )
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert page.get_by_role("region", name="Companies").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"


CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((each) => each / 255)
      .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("main *, header *")]
    .filter((each) => each.matches(":not(:disabled)") && each.checkVisibility()
      && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((each) => {
      const [a, b] = [light(getComputedStyle(each).color), light(back(each))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), each.className, each.textContent];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_background(
    page: Page, wire: Any, emulator: Emulator, scheme: Any
) -> None:
    wire.lease(10)
    wire.track(1, "key")
    wire.track(1, "key")
    wire.track(1, "other", lease_id="lse_nobody")
    emulator.fail("delay", on="extend")
    press(page, "Check", "Checked")
    page.locator("#events-rows tr").nth(2).wait_for()
    page.emulate_media(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) > 382) == (scheme == "light")
    weak = [each for each in page.evaluate(CONTRASTS) if each[0] < 4.5]
    assert weak == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page, wire: Any) -> None:
    wire.lease(10)
    wire.track(1, "key")
    page.locator("#events-rows tr").wait_for()
    press(page, "Check", "Checked")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_says_when_the_emulator_is_gone(browser: Browser) -> None:
    with Emulator(process=False) as emulator:
        page = browser.new_page()
        page.goto(emulator.base_url)
        page.get_by_text("live", exact=True).wait_for()
    page.get_by_text("no answer").wait_for()
    page.close()
