"""The whole page: its head, its sections in their columns, and the dialogs that the script opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schematic_native.emulator.dashboard.check_section import check_section
from schematic_native.emulator.dashboard.clients_section import clients_section
from schematic_native.emulator.dashboard.clock_section import clock_section
from schematic_native.emulator.dashboard.companies_section import companies_section
from schematic_native.emulator.dashboard.entities_section import entities_section
from schematic_native.emulator.dashboard.events_section import events_section
from schematic_native.emulator.dashboard.faults_section import faults_section
from schematic_native.emulator.dashboard.holds_section import holds_section
from schematic_native.emulator.dashboard.markup import Markup, joined, tag
from schematic_native.emulator.dashboard.state_section import state_section
from schematic_native.emulator.dashboard.traffic_section import traffic_section

if TYPE_CHECKING:
    from schematic_native.emulator.components import Components

ASSETS = "/_emulator/dashboard"


def main_content(components: Components) -> Markup:
    """Render everything that changes."""
    service = components.service
    service.sweep()
    state = service.state
    watching = (
        companies_section(state),
        holds_section(state.ledger, service.clock.now()),
        events_section(state),
        traffic_section(components.traffic),
        clients_section(components.stream),
    )
    doing = (
        clock_section(service.clock),
        check_section(state.directory),
        faults_section(components.injector.faults),
        state_section(service),
        entities_section(state.directory),
    )
    return joined(
        [
            tag("div", watching, class_="column", id="watching"),
            tag("div", doing, class_="column", id="doing"),
        ]
    )


def page(components: Components, url: str, control_url: str) -> str:
    """Render the page as it is served at `url`; `control_url` is where it is served, too."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "Schematic emulator"),
        tag("link", rel="icon", href="data:,"),
        tag("link", rel="stylesheet", href=f"{ASSETS}/dashboard.css"),
        tag("script", src=f"{ASSETS}/dashboard.js", type="module"),
    )
    header = tag(
        "header",
        tag("h1", "Schematic emulator"),
        tag(
            "dl",
            tag("div", tag("dt", "URL"), tag("dd", tag("code", url))),
            tag("div", tag("dt", "API key"), tag("dd", tag("code", components.service.api_key))),
            class_="where",
        ),
        tag("p", "", id="connection", data_control=control_url),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#main", class_="skip"),
        header,
        tag(
            "noscript", tag("p", "Without JavaScript the page shows what is, and changes nothing.")
        ),
        tag("p", "", id="status", role="status"),
        tag("main", main_content(components), id="main", data_feed=f"{ASSETS}/feed"),
        _editor(),
        _confirmation(),
    )
    return f"<!doctype html>{tag('html', head, body, lang='en')}"


def _editor() -> Markup:
    """Render the dialog in which an entity is edited as JSON."""
    return tag(
        "dialog",
        tag("h2", "Edit", id="editor-title"),
        tag("p", "As DataStream sends it. Another id makes another one.", id="editor-help"),
        tag(
            "textarea",
            id="editor-text",
            rows="20",
            cols="80",
            spellcheck="false",
            aria_labelledby="editor-title",
            aria_describedby="editor-help",
        ),
        tag("p", "", id="editor-error", role="alert"),
        tag(
            "div",
            tag("button", "Save", type="button", id="editor-save"),
            tag("button", "Cancel", type="button", data_close=True),
            class_="buttons",
        ),
        id="editor",
        aria_labelledby="editor-title",
    )


def _confirmation() -> Markup:
    """Render the dialog that asks before something is lost."""
    return tag(
        "dialog",
        tag("p", "", id="confirmation-text"),
        tag(
            "div",
            tag("button", "Yes", type="button", id="confirmation-yes", class_="danger"),
            tag("button", "Cancel", type="button", data_close=True),
            class_="buttons",
        ),
        id="confirmation",
        aria_labelledby="confirmation-text",
    )
