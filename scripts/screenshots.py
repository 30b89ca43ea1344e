"""Make the pictures of the emulator's dashboard in docs/images, in the chromium that is installed.

A client does a little of everything first. Times, ids and ports differ between two runs.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = 64
PORT = 8080
# By name: the width and height of the window, the colour scheme, and where it is scrolled to.
PICTURES = {
    "dashboard-light": (1280, 1320, "light", "body"),
    "dashboard-dark": (1280, 1320, "dark", "body"),
    "dashboard-events": (1280, 800, "light", "#holds"),
    "dashboard-phone": (390, 844, "light", "#companies"),
    "dashboard-check": (390, 844, "dark", "#checks"),
}


def main() -> int:
    """Make every picture."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed", file=sys.stderr)
        return 1
    with Emulator(port=PORT) as emulator, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with Schematic(emulator.api_key, configuration(emulator)) as client:
            work(client, emulator)
            page = browser.new_page(device_scale_factor=1)
            page.goto(emulator.base_url)
            page.locator("#events-rows tr").nth(5).wait_for()
            try_check(page)
            for name, (width, height, scheme, place) in PICTURES.items():
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                page.locator(place).evaluate("each => each.scrollIntoView()")
                save(page, IMAGES / f"{name}.png")
        browser.close()
    return 0


def work(client: Schematic, emulator: Emulator) -> None:
    """Do a little of everything that the page shows."""
    emulator.set_balance("comp_acme", "credit_inference", 60_000)
    emulator.set_balance("comp_over", "credit_inference", 900)
    # A client that is shut down sends its events at once.
    with Schematic(emulator.api_key, configuration(emulator)) as other:
        for usage, used in ((1200, 950), (4000, 4000), (7000, 6100)):
            result = other.check("inference", company={"id": "acme"}, usage=usage)
            other.track_with_reservation(result.reservation, used)
        result = other.check("inference", company={"id": "few"}, usage=10)
        other.track_with_reservation(result.reservation, 8)
        other.identify({"id": "ada"}, company=None)
        other.track("report_exported", company={"id": "acme"})
    client.check("inference", company={"id": "acme"}, usage=600)
    client.check("inference", company={"id": "over"}, usage=50)
    client.check("inference", company={"id": "none"}, usage=50)
    emulator.fail("status", on="extend", status=503, times=3)


def configuration(emulator: Emulator) -> SchematicConfig:
    """Return the configuration of a client of the emulator."""
    return SchematicConfig(
        base_url=emulator.base_url,
        event_capture_url=emulator.base_url,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(),
    )


def try_check(page: Page) -> None:
    """Try a check on the page."""
    page.get_by_label("Flag", exact=True).select_option(label="inference")
    page.get_by_label("Company", exact=True).select_option("comp_none")
    page.get_by_label("Usage (units)").fill("26")
    page.get_by_role("button", name="Check", exact=True).click()
    page.locator("#check-result .rules").wait_for()
    # What a message says of the click is not what the picture is of.
    page.get_by_role("status").evaluate("each => each.textContent = ''")


def save(page: Page, path: Path) -> None:
    """Save what is seen, in few colours."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    sys.exit(main())
