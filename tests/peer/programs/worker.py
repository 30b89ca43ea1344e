"""A synchronous worker: it keeps companies, imports history, meters usage, and has a test of itself."""

import copy
import os
import pickle
from datetime import date, datetime, timezone
from unittest.mock import MagicMock, patch

import httpx
from schematic.client import (
    CheckOptions,
    CreditLeaseConfig,
    LocalCache,
    Schematic,
    SchematicConfig,
    TrackOptions,
    TrackWithReservationOptions,
)
from schematic.types import (
    CreateEventRequestBody,
    EventBodyIdentify,
    EventBodyIdentifyCompany,
    EventBodyTrack,
)

ACME, ADA = {"id": "acme"}, {"id": "ada"}
URL = os.environ["SCHEMATIC_URL"]
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


def keep_companies(client):
    for number in range(3):
        kept = client.companies.upsert_company(keys={"id": f"co{number}"}, name=f"Co {number}").data
        print(kept.name, [key.key for key in kept.keys])
    print(sorted(each.name for each in client.companies.list_companies(q="Co ").data))


def import_history(client):
    options = TrackOptions(idempotency_key="imported", sent_at=NOON, trusted_client_clock=True)
    traits = {"at": NOON, "day": date(2026, 1, 2), "nested": [{"at": NOON}]}
    client.track("imported", ACME, ADA, traits, 3, options)
    company = EventBodyIdentifyCompany(keys=ACME, traits={"renewed": NOON})
    client.identify(ADA, company, "Ada", {"seen": NOON})
    body = EventBodyTrack(event="pushed", company=ACME, quantity=2)
    client.event_buffer.push(CreateEventRequestBody(event_type="track", body=body))
    body = EventBodyIdentify(keys={"id": "bob"}, name="Bob")
    client.event_buffer.push(CreateEventRequestBody(event_type="identify", body=body))
    client.event_buffer.flush()


def meter(client):
    for usage in (10, 2.5, 0, -1, float("nan")):
        result = client.check("inference", ACME, ADA, CheckOptions(usage=usage))
        print(usage, result.allowed, result.value, result.reservation is not None)
    result = client.check("inference", ACME, ADA, CheckOptions(usage=10))
    hold = result.reservation
    print(hold.mode, hold.company_id, hold.credits_reserved, hold.consumption_rate, hold.user)
    print(pickle.loads(pickle.dumps(hold)) == hold, copy.deepcopy(hold) == hold)
    options = TrackWithReservationOptions(traits={"at": NOON})
    for _ in range(2):
        client.track_with_reservation(hold, 4, options)


def test_itself():
    given = MagicMock(spec=httpx.Client)
    client = Schematic("key", SchematicConfig(httpx_client=given, logger=MagicMock()))
    with patch.object(client.event_buffer, "push") as push:
        client.track("opened", ACME, quantity=5, options=TrackOptions(sent_at=NOON))
        client.identify(ADA, EventBodyIdentifyCompany(keys=ACME), traits={"age": 7})
    for call in push.call_args_list:
        print(call.args[0].event_type, call.args[0].body, call.args[0].sent_at)
    client.event_buffer.push = MagicMock(side_effect=RuntimeError("full"))
    client.track("opened")
    print(client.logger.error.called)
    client.offline = True
    client.flag_defaults = {"new": True}
    print(client.check_flag("new"), client.check_flag("old"))
    client.event_buffer.stop()


def main():
    config = SchematicConfig(
        base_url=URL,
        event_capture_url=URL,
        cache_providers=[LocalCache(10, 5000)],
        credit_leases=CreditLeaseConfig(mode="server", default_reservation_ttl=30.0),
    )
    client = Schematic(os.environ["SCHEMATIC_KEY"], config)
    keep_companies(client)
    import_history(client)
    meter(client)
    test_itself()
    client.event_buffer.stop()
    client.shutdown()


main()
