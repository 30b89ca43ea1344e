"""The published engine, driven through the exports of its WebAssembly module."""

import importlib.util
from pathlib import Path

import wasmtime

EXPORTS = (
    "alloc",
    "setCurrentTimeMillis",
    "checkFlagCombined",
    "checkFlagsCombined",
    "getResultJson",
)
BUFFER_SIZE = 1 << 20  # bytes, of which no envelope has more
UNSET_CLOCK = -(2**63)  # beyond every date, which the engine takes for no clock


def find_module() -> Path | None:
    """The path of the published engine, or None if its package is not installed."""
    package = importlib.util.find_spec("schematic")
    if package is None or package.origin is None:
        return None
    module = Path(package.origin).parent / "datastream" / "wasm" / "rulesengine.wasm"
    return module if module.exists() else None


class Oracle:
    """One instance of the published engine; one that trapped is replaced by a new one."""

    def __init__(self, module: Path) -> None:
        self._engine = wasmtime.Engine()
        self._module = wasmtime.Module.from_file(self._engine, str(module))
        self._start()

    def _start(self) -> None:
        self._store = wasmtime.Store(self._engine)
        exports = wasmtime.Instance(self._store, self._module, []).exports(self._store)
        self._memory = exports["memory"]
        self._exports = {name: exports[name] for name in EXPORTS}
        self._buffer = self._exports["alloc"](self._store, BUFFER_SIZE)
        self._clock: int | None = None

    def check(
        self, envelope: bytes, now: int | None, export: str = "checkFlagCombined"
    ) -> str | None:
        """The result JSON, or None where the engine refuses; `now` is epoch milliseconds."""
        try:
            return self._call(envelope, now, export)
        except wasmtime.Trap:
            self._start()
            raise

    def _call(self, envelope: bytes, now: int | None, export: str) -> str | None:
        store, exports = self._store, self._exports
        clock = UNSET_CLOCK if now is None else now
        if clock != self._clock:
            exports["setCurrentTimeMillis"](store, clock)
            self._clock = clock
        if len(envelope) > BUFFER_SIZE:
            raise ValueError(f"an envelope of {len(envelope)} bytes is larger than the buffer")
        self._memory.write(store, envelope, self._buffer)
        length = exports[export](store, self._buffer, len(envelope))
        if length < 0:
            return None
        start = exports["getResultJson"](store)
        return bytes(self._memory.read(store, start, start + length)).decode()
