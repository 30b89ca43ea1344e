"""Whatever is posted, a batch is taken whole or refused whole, and the books balance."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schematic_native.emulator.clock import Clock
from schematic_native.emulator.endpoints import capture
from schematic_native.emulator.errors import ServiceError
from schematic_native.emulator.seed import load_seed
from schematic_native.emulator.state.service import Service
from schematic_native.ground import json_text

SEED = load_seed()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def or_json(*likely: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(likely) | JSON


TRACK = st.fixed_dictionaries(
    {"event": or_json("inference_tokens", "report_exported")},
    optional={
        "company": st.just({"id": "few"})
        | st.dictionaries(st.sampled_from(["id", "ID"]), JSON)
        | JSON,
        "quantity": st.integers(0, 50) | JSON,
        "lease_id": or_json("lse_1", "lse_2"),
        "reservation_id": or_json("res_1"),
        "keys": st.just({"id": "grace"}) | JSON,
        "traits": st.dictionaries(st.sampled_from(["trait_beta"]), JSON) | JSON,
    },
)
EVENT = st.fixed_dictionaries(
    {
        "api_key": st.just(SEED.api_key),
        "type": st.sampled_from(["track", "track", "identify", "flag_check"]),
        "body": TRACK,
    },
    optional={"idempotency_key": st.sampled_from(["a", "b", ""])},
)


@settings(deadline=None, max_examples=150)
@given(batches=st.lists(st.lists(EVENT | JSON, max_size=4), max_size=5))
def test_no_batch_breaks_the_books(batches: list[list[Any]]) -> None:
    service = Service(SEED, Clock(lambda: 1e9))
    lease = service.acquire("comp_few", "credit_inference", 30, 1e9 + 60).id
    taken = 0
    for events in batches:
        body = json_text.write({"events": events}).replace(b"lse_1", lease.encode())
        try:
            taken += capture.take(service, body)
        except ServiceError:
            continue
    assert service.summary()["events"] == taken == len(service.events())
    report = service.audit()
    assert report["balanced"], report["problems"]
