"""The management calls of the emulator, made with the published package's own client."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.emulator import Emulator
from tests.conftest import eventually
from tests.emulator.conftest import CREDIT
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("schematic.base_client")
from schematic.core import ApiError
from schematic.errors import BadRequestError, NotFoundError, UnauthorizedError

NEW = {"id": "new-co"}


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Any]:
    with Schematic(emulator.api_key, config(emulator)) as made:
        yield made


def config(emulator: Emulator, **fields: Any) -> SchematicConfig:
    url = emulator.base_url
    return SchematicConfig(base_url=url, event_capture_url=url, **fields)


def streaming(emulator: Emulator) -> SchematicConfig:
    leases = CreditLeaseConfig(mode="client", default_lease_size=100)
    return config(emulator, use_datastream=True, credit_leases=leases)


def test_a_company_is_made_found_changed_and_deleted(client: Any) -> None:
    made = client.companies.upsert_company(
        keys={"id": "new-co", "domain": "new.example"},
        name="New Co",
        traits={"city": "Rome", "seats": 25, "is_active": True},
    ).data
    assert (made.name, made.user_count, made.plans) == ("New Co", 0, [])
    assert {key.key: key.value for key in made.keys} == {"id": "new-co", "domain": "new.example"}
    assert made.traits == {"city": "Rome", "seats": 25, "is_active": True}
    assert client.companies.get_company(made.id).data == made
    assert client.companies.lookup_company(keys={"domain": "NEW.example"}).data == made

    changed = client.companies.upsert_company(
        keys={"id": "new-co"}, traits={"seats": 26, "city": None}, remove_keys=["domain"]
    ).data
    assert changed.id == made.id
    assert changed.name == "New Co"
    assert changed.traits == {"seats": 26, "is_active": True}
    assert [key.key for key in changed.keys] == ["id"]
    counted = client.companies.upsert_company_trait(keys=NEW, trait="seats", incr=4).data
    assert counted.traits["seats"] == 30

    assert client.companies.delete_company(made.id).data.deleted is True
    with pytest.raises(NotFoundError, match="company not found"):
        client.companies.get_company(made.id)
    client.companies.create_company(keys=NEW)
    assert client.companies.delete_company_by_keys(keys=NEW).data.id.startswith("comp_")
    with pytest.raises(NotFoundError):
        client.companies.upsert_company(keys=NEW, update_only=True)


def test_a_user_belongs_to_the_companies_that_it_names(client: Any) -> None:
    user = client.companies.upsert_user(
        keys={"email": "ada@new.example"}, name="Ada", company=NEW, traits={"is_staff": False}
    ).data
    company = client.companies.lookup_company(keys=NEW).data
    assert [each.company_id for each in user.company_memberships] == [company.id]
    assert (user.name, user.traits, company.user_count) == ("Ada", {"is_staff": False}, 1)
    again = client.companies.upsert_user(keys={"email": "ada@new.example"}, company_id="comp_acme")
    assert len(again.data.company_memberships) == 2
    assert client.companies.list_users(company_id="comp_acme").data == [again.data]
    assert client.companies.count_users().data.count == 3
    assert client.companies.lookup_user(keys={"email": "ada@new.example"}).data == again.data
    client.companies.delete_user(user.id)
    with pytest.raises(NotFoundError):
        client.companies.get_user(user.id)


def test_companies_are_listed_by_page_by_plan_and_by_name(client: Any) -> None:
    everybody = client.companies.list_companies().data
    count = client.companies.count_companies().data.count
    assert len(everybody) == count == 5
    page = client.companies.list_companies(limit=2, offset=1).data
    assert page == everybody[1:3]
    assert [each.id for each in client.companies.list_companies(q="OVERRIDE").data] == [
        "comp_override"
    ]
    assert client.companies.count_companies(plan_id="plan_free").data.count == 1
    two = client.companies.list_companies(ids=["comp_acme", "comp_few"]).data
    assert [each.id for each in two] == ["comp_acme", "comp_few"]
    with pytest.raises(BadRequestError, match="does not know with_subscription"):
        client.companies.list_companies(with_subscription=True)
    with pytest.raises(BadRequestError, match="limit must be 1 to 250"):
        client.companies.list_companies(limit=1000)


def test_keys_of_two_companies_are_a_conflict(client: Any) -> None:
    client.companies.upsert_company(keys={"domain": "new.example"})
    with pytest.raises(BadRequestError, match="key conflict"):
        client.companies.upsert_company(keys={"id": "acme", "domain": "new.example"})
    with pytest.raises(BadRequestError, match="belong to another company"):
        client.companies.upsert_company(id="comp_acme", keys={"domain": "new.example"})


def test_a_test_makes_its_company_grants_it_credits_checks_and_settles(
    emulator: Emulator,
) -> None:
    with Schematic(emulator.api_key, streaming(emulator)) as client:
        client.initialize()
        assert client.check("inference", NEW, usage=5).allowed is False
        company = client.companies.upsert_company(keys=NEW, base_plan_id="plan_pro").data
        assert company.plan is not None
        assert company.plan.id == "plan_pro"
        assert client.check("inference", NEW, usage=5).allowed is False
        grant = client.credits.grant_billing_credits_to_company(
            company_id=company.id, credit_id=CREDIT, quantity=1000, reason="free"
        ).data
        assert (grant.quantity, grant.quantity_remaining, grant.quantity_used) == (1000, 1000, 0)
        eventually(lambda: client.check_flag("inference", NEW))
        result = client.check("inference", NEW, usage=5)
        assert result.reservation is not None
        client.track_with_reservation(result.reservation, 3)
    state = emulator.state()
    assert state["billed"][company.id] == {"inference_tokens": 3}
    assert state["companies"][company.id]["balances"] == {CREDIT: 994}
    (told,) = state["grants"].values()
    assert (told["quantity"], told["remaining"]) == (1000, 994)


def test_changes_of_entities_are_pushed_to_who_follows_them(emulator: Emulator) -> None:
    with Schematic(emulator.api_key, streaming(emulator)) as client:
        client.initialize()
        assert client.check_flag("beta", {"id": "acme"}) is False
        client.companies.upsert_company(keys={"id": "acme"}, traits={"trait_region": "eu"})
        eventually(lambda: client.check_flag("beta", {"id": "acme"}))
        assert client.check_flag("beta", user={"id": "grace"}) is False
        client.companies.upsert_user(keys={"id": "grace"}, traits={"trait_beta": True})
        eventually(lambda: client.check_flag("beta", user={"id": "grace"}))
        balance = client.get_credit_balance({"id": "acme"}, CREDIT).remaining
        assert balance == 1_000_000_000  # an upsert leaves the credits as they are


def test_grants_are_used_by_their_expiry_and_end(emulator: Emulator, client: Any) -> None:
    company = client.companies.upsert_company(keys=NEW).data.id

    def give(quantity: float, **fields: Any) -> str:
        given = client.credits.grant_billing_credits_to_company(
            company_id=company, credit_id=CREDIT, quantity=quantity, reason="free", **fields
        )
        return str(given.data.id)

    soon = datetime.fromtimestamp(emulator.state()["now"], timezone.utc) + timedelta(seconds=100)
    lasting, brief = give(10), give(5, expires_at=soon)
    client.track("inference_tokens", NEW, quantity=2)  # one credit a unit, as nothing tells a rate
    eventually(lambda: emulator.state()["companies"][company]["balances"][CREDIT] < 15)
    used = 15 - emulator.state()["companies"][company]["balances"][CREDIT]

    def left() -> dict[str, float]:
        grants = client.credits.list_company_grants(company_id=company).data
        return {each.id: each.quantity_remaining for each in grants}

    assert left() == {lasting: 10, brief: 5 - used}
    assert client.credits.count_company_grants(company_id=company).data.count == 2
    emulator.advance(200)
    assert left() == {lasting: 10, brief: 0}
    (balance,) = client.credits.list_company_credit_balances(company_id=company).data
    assert (balance.credit_id, balance.remaining, balance.settled) == (CREDIT, 10, used)
    zeroed = client.credits.zero_out_grant(lasting).data
    assert (zeroed.quantity_remaining, zeroed.zeroed_out_date is None) == (0, False)
    assert emulator.state()["companies"][company]["balances"][CREDIT] == 0
    assert len(client.credits.list_grants_for_credit(credit_id=CREDIT).data) == 2
    with pytest.raises(BadRequestError, match="has ended"):
        client.credits.zero_out_grant(lasting)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"company_id": "comp_nobody"}, NotFoundError, "company not found"),
        ({"credit_id": "credit_nothing"}, NotFoundError, "credit type not found"),
        ({"quantity": 0}, BadRequestError, "quantity must be greater than 0"),
        ({"renewal_enabled": True}, BadRequestError, "does not know renewal_enabled"),
        (
            {"expires_at": datetime(2020, 1, 1, tzinfo=timezone.utc)},
            BadRequestError,
            "expires_at must be in the future",
        ),
    ],
)
def test_a_grant_that_cannot_be_meant_is_refused(
    client: Any, fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    good = {"company_id": "comp_acme", "credit_id": CREDIT, "quantity": 5, "reason": "free"}
    with pytest.raises(error, match=said):
        client.credits.grant_billing_credits_to_company(**(good | fields))


def test_plans_features_flags_and_credits_are_those_of_the_seed(client: Any) -> None:
    assert {plan.id for plan in client.plans.list_plans().data} == {"plan_pro", "plan_free"}
    pro = client.plans.get_plan("plan_pro").data
    assert {each.name for each in pro.features} == {"inference", "exports"}
    assert client.plans.count_plans(q="pro").data.count == 1
    flags = client.features.list_flags().data
    assert {flag.key for flag in flags} == {"inference", "exports", "beta"}
    assert client.features.get_flag("flag_beta").data.rules[0].name == "Beta testers"
    features = client.features.list_features().data
    assert {each.name: each.event_subtype for each in features} == {
        "inference": "inference_tokens",
        "exports": "report_exported",
    }
    assert client.features.get_feature(features[0].id).data == features[0]
    assert client.features.count_flags().data.count == 3
    assert client.features.count_features().data.count == 2
    assert [each.id for each in client.credits.list_billing_credits().data] == [CREDIT]
    assert client.credits.get_single_billing_credit(CREDIT).data.id == CREDIT
    assert client.credits.count_billing_credits().data.count == 1
    for ask in (client.plans.get_plan, client.features.get_flag, client.features.get_feature):
        with pytest.raises(NotFoundError, match="not found: none"):
            ask("none")


def test_a_temporary_access_token_is_for_a_company_that_is_known(
    emulator: Emulator, client: Any
) -> None:
    token = client.accesstokens.issue_temporary_access_token(lookup={"id": "acme"}).data
    assert token.token
    assert token.resource_type == "company"
    (told,) = emulator.state()["tokens"].values()
    assert told["company_id"] == "comp_acme"
    assert told["expires_at"] == pytest.approx(token.expired_at.timestamp(), abs=0.001)
    with pytest.raises(NotFoundError, match="no company has these keys"):
        client.accesstokens.issue_temporary_access_token(lookup={"id": "nobody"})


def test_what_it_does_not_know_says_so_and_is_counted(emulator: Emulator, client: Any) -> None:
    with pytest.raises(NotFoundError, match="the emulator does not know GET /components"):
        client.components.list_components()
    with pytest.raises(ApiError):
        client.plans.delete_plan("plan_pro")
    assert emulator.state()["unknown"] == {"GET /components": 1, "DELETE /plans/plan_pro": 1}


def test_every_call_wants_the_key(emulator: Emulator) -> None:
    with Schematic("wrong", config(emulator)) as client, pytest.raises(UnauthorizedError):
        client.companies.list_companies()


def test_a_killed_emulator_goes_on_with_all_of_it(tmp_path: Path) -> None:
    with Emulator(port=free_port(), journal=tmp_path / "journal") as emulator:
        with Schematic(emulator.api_key, config(emulator)) as client:
            company = client.companies.upsert_company(keys=NEW, name="New Co").data
            client.companies.upsert_user(keys={"id": "u"}, company=NEW, name="U")
            client.credits.grant_billing_credits_to_company(
                company_id=company.id, credit_id=CREDIT, quantity=7, reason="free"
            )
            client.accesstokens.issue_temporary_access_token(lookup=NEW)
            before = (client.companies.list_companies().data, client.companies.list_users().data)
        emulator.kill()
        emulator.restart(keep_state=True)
        with Schematic(emulator.api_key, config(emulator)) as client:
            after = (client.companies.list_companies().data, client.companies.list_users().data)
            assert after == before
            (grant,) = client.credits.list_company_grants(company_id=company.id).data
            assert grant.quantity_remaining == 7
        state = emulator.state()
        assert len(state["tokens"]) == len(state["grants"]) == 1
        assert emulator.audit()["balanced"]
