"""A day of a small service, written for the published package alone."""

import hashlib
import hmac
import os
import sys

import schematic.core
from schematic import EventBodyIdentifyCompany
from schematic.client import CheckOptions, CreditLeaseConfig, Schematic, SchematicConfig
from schematic.webhook_utils import WebhookSignatureError, verify_webhook_signature

url, key = os.environ["SCHEMATIC_URL"], os.environ["SCHEMATIC_KEY"]
leases = CreditLeaseConfig(default_reservation_ttl=30.0)
config = SchematicConfig(base_url=url, event_capture_url=url, credit_leases=leases)
client = Schematic(key, config)
company, user = {"id": "globex"}, {"email": "hank@globex.example"}

made = client.companies.upsert_company(
    keys=company, name="Globex", base_plan_id="plan_pro", traits={"city": "Cypress Creek"}
).data
client.companies.upsert_user(keys=user, name="Hank", company=company)
print(made.name, made.traits, [plan.id for plan in made.plans])
print(len(client.companies.lookup_user(keys=user).data.company_memberships))
print([flag.key for flag in client.features.list_flags().data])

grant = client.credits.grant_billing_credits_to_company(
    company_id=made.id, credit_id="credit_inference", quantity=500, reason="free"
)
print(grant.data.quantity_remaining)
client.identify(
    keys=user,
    name="Hank Scorpio",
    company=EventBodyIdentifyCompany(keys=company, name="Globex", traits={"seats": 3}),
)
for usage, used in ((100, 60), (10_000, 0)):
    result = client.check("inference", company, user, CheckOptions(usage=usage))
    print(usage, result.allowed, result.reservation and result.reservation.credits_reserved)
    if result.reservation is not None:
        client.track_with_reservation(result.reservation, used)
client.track(event="report_exported", company=company, user=user, quantity=2)
token = client.accesstokens.issue_temporary_access_token(lookup=company).data
print(token.token.startswith("token_"), token.resource_type)
try:
    client.companies.get_company("comp_unknown")
except schematic.core.ApiError as error:
    print(type(error).__name__, error.status_code, error.body.error)

body, stamp = b'{"action": "company.updated"}', "1735689600"
signature = hmac.new(b"secret", body + b"+" + stamp.encode(), hashlib.sha256).hexdigest()
names = "X-Schematic-Webhook-Signature", "X-Schematic-Webhook-Timestamp"
for secret in ("secret", "forged"):
    try:
        verify_webhook_signature(dict(zip(names, (signature, stamp))), secret, body)
        print("signed")
    except WebhookSignatureError:
        print("refused")
client.shutdown()
print("as arguments:", sys.argv[1:])
