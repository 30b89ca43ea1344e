"""Fixtures for pytest: an emulator with a fresh ledger for each test, and clients of it.

pytest loads this wherever the package is installed, so nothing but pytest is imported before a
fixture is used. Each process of pytest-xdist has an emulator of its own, on a free port. Between two
tests it is reset, not restarted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from schematic_native import (
        AsyncSchematic,
        AsyncSchematicConfig,
        Schematic,
        SchematicConfig,
    )
    from schematic_native.emulator import Emulator
    from schematic_native.emulator.seed import Seed

    Source = str | os.PathLike[str] | Mapping[str, Any] | None

_MARKER = "schematic_seed"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(seed): what the emulator knows at the start of the test: a mapping, or a file "
        "beside the test's; see schematic_emulator",
    )


class _SharedEmulator:
    """The emulator of one session, and the seed that it has."""

    def __init__(self) -> None:
        self.emulator: Emulator | None = None
        self._digest = ""
        self._shipped: Seed | None = None

    def fresh(self, source: Source) -> Emulator:
        """Return it as it is at the start, with a seed."""
        from schematic_native.emulator import Emulator  # noqa: PLC0415 - only where it is used

        seed = self._load(source)
        if self.emulator is None or not self.emulator.is_running:
            self.stop()
            self.emulator = Emulator(seed.content()).start()
        elif seed.digest == self._digest:
            self.emulator.reset()
        else:
            self.emulator.reset(seed.content())
        self._digest = seed.digest
        return self.emulator

    def _load(self, source: Source) -> Seed:
        from schematic_native.emulator.seed import load_seed  # noqa: PLC0415

        if source is not None:
            return load_seed(source)
        if self._shipped is None:
            self._shipped = load_seed()
        return self._shipped

    def stop(self) -> None:
        """Stop it, if it was started."""
        if self.emulator is not None:
            self.emulator.stop()
            self.emulator = None


@pytest.fixture(scope="session")
def _shared_schematic_emulator() -> Iterator[_SharedEmulator]:
    shared = _SharedEmulator()
    yield shared
    shared.stop()


@pytest.fixture
def schematic_seed() -> Source:
    """Return what the emulator knows where no marker says otherwise; override it in a conftest.

    A mapping, a file, or None for the seed that ships with the package.
    """
    return None


@pytest.fixture
def schematic_emulator(
    request: pytest.FixtureRequest,
    _shared_schematic_emulator: _SharedEmulator,
    schematic_seed: Source,
) -> Iterator[Emulator]:
    """Yield an emulator as at its start: no leases, no events, no faults, its clock at the real time.

    Its seed is that of the marker `schematic_seed`, else of the fixture of that name. At the end its
    books are audited, after the clients of the fixtures have sent what they had: a test whose ledger
    does not balance fails.
    """
    marker = request.node.get_closest_marker(_MARKER)
    source = schematic_seed if marker is None else _seed_of(marker, request.path.parent)
    emulator = _shared_schematic_emulator.fresh(source)
    yield emulator
    if emulator.is_running:
        _require_balance(emulator.audit())


def _seed_of(marker: pytest.Mark, folder: Path) -> Source:
    if len(marker.args) != 1 or marker.kwargs:
        raise pytest.UsageError(f"{_MARKER} takes one argument: a mapping or a file")
    [source] = marker.args
    return folder / source if isinstance(source, (str, Path)) else source


def _require_balance(report: Mapping[str, Any]) -> None:
    if not report["balanced"]:
        problems = "\n".join(f"  {problem}" for problem in report["problems"])
        pytest.fail(f"the emulator's ledger does not balance:\n{problems}", pytrace=False)


# Clients


@pytest.fixture
def schematic_config(schematic_emulator: Emulator) -> SchematicConfig:
    """Return the configuration of `schematic_client`: DataStream and leases; override it in a conftest."""
    from schematic_native import SchematicConfig  # noqa: PLC0415

    return SchematicConfig(**_fields(schematic_emulator))


@pytest.fixture
def async_schematic_config(schematic_emulator: Emulator) -> AsyncSchematicConfig:
    """Return the configuration of `async_schematic_client`; override it in a conftest."""
    from schematic_native import AsyncSchematicConfig  # noqa: PLC0415

    return AsyncSchematicConfig(**_fields(schematic_emulator))


def _fields(emulator: Emulator) -> dict[str, Any]:
    from schematic_native import CreditLeaseConfig  # noqa: PLC0415

    return {
        "base_url": emulator.base_url,
        "event_capture_url": emulator.base_url,
        "use_datastream": True,
        "credit_leases": CreditLeaseConfig(),
    }


@pytest.fixture
def schematic_client(
    schematic_emulator: Emulator, schematic_config: SchematicConfig
) -> Iterator[Schematic]:
    """Yield a client of the emulator; it is shut down after the test, and sends its events then."""
    from schematic_native import Schematic  # noqa: PLC0415

    client = Schematic(schematic_emulator.api_key, schematic_config)
    yield client
    _heal(schematic_emulator)
    client.shutdown()


@pytest.fixture
def async_schematic_client(
    schematic_emulator: Emulator, async_schematic_config: AsyncSchematicConfig
) -> Iterator[AsyncSchematic]:
    """Yield an asynchronous client of the emulator, for tests that any plugin runs on any event loop."""
    from schematic_native import AsyncSchematic  # noqa: PLC0415

    client = AsyncSchematic(schematic_emulator.api_key, async_schematic_config)
    yield client
    _heal(schematic_emulator)
    # The loop of the test may have been closed; the client goes on with the one that it is called from.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(client.shutdown())
    finally:
        loop.close()


def _heal(emulator: Emulator) -> None:
    """Let a client send its last events, whatever faults a test has left."""
    if emulator.is_running:
        emulator.heal()
