"""Random envelopes for the rules engine, drawn from pools small enough that ids collide."""

from random import Random
from typing import Any

from tests.engine.json_objects import Object, Raw, camel, objects_of, write
from tests.engine.pools import (
    CLOCKS,
    COMPARABLES,
    CONDITION_TYPES,
    CREDITS,
    DATES,
    DEFINITIONS,
    EVENTS,
    FLOATS,
    IDS,
    INSTANTS,
    INTEGERS,
    NUMBER_TEXTS,
    ODD_IDS,
    ODD_VALUES,
    OPERATORS,
    PERIODS,
    QUANTITIES,
    RESETS,
    RULE_TYPES,
    VALUE_TYPES,
)


class Envelopes:
    """Draws envelopes and clocks from a seeded source."""

    def __init__(self, random: Random) -> None:
        self.random = random
        # The condition type that most conditions of this envelope have.
        self._theme: str | None = None

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, pool: Any) -> Any:
        return pool[int(self.random.random() * len(pool))]

    def some(self, make: Any, most: int) -> list[Any]:
        return [make() for _ in range(int(self.random.random() * (most + 1)))]

    def maybe(self, make: Any, probability: float = 0.7) -> Any:
        return make() if self.chance(probability) else None

    def id(self) -> str:
        return self.pick(ODD_IDS) if self.chance(0.05) else self.pick(IDS)

    def integer(self) -> Raw:
        if self.chance(0.5):
            return Raw(self.pick(INTEGERS[:6]))
        return (
            Raw(self.pick(INTEGERS)) if self.chance(0.5) else Raw(str(self.random.randint(-5, 50)))
        )

    def number(self) -> Raw:
        if self.chance(0.4):
            return Raw(self.pick(FLOATS[:6]))
        if self.chance(0.6):
            return Raw(self.pick(FLOATS))
        if self.chance(0.5):
            return Raw(f"{self.random.uniform(-5, 50):.{self.random.randint(0, 19)}f}")
        return Raw(repr(self.random.uniform(0, 1) * 10 ** self.random.randint(-12, 22)))

    def clock(self) -> int | None:
        if self.chance(0.4):
            return self.pick(CLOCKS)
        return self.random.randint(1_640_000_000_000, 1_760_000_000_000)

    def date(self) -> str:
        if self.chance(0.6):
            return self.pick(DATES)
        draw = self.random.randint
        year, month, day = draw(2023, 2025), draw(0, 13), draw(0, 32)
        clock = f"{draw(0, 24):02}:{draw(0, 60):02}:{draw(0, 61):02}"
        fraction = self.pick(("", "", ".1", ".123", ".123456", ".1234567891"))
        zone = self.pick(
            ("", "Z", " UTC", " Z", "+0000", "+05:30", "-1200", "-12:60", "+9900", " +01:00")
        )
        return f"{year}-{month:02}-{day:02}{self.pick('T  t')}{clock}{fraction}{zone}"

    def text(self) -> str:
        return self.date() if self.chance(0.3) else self.pick(NUMBER_TEXTS)

    def object(self, **fields: Any) -> Object:
        """Null fields are left out half the time; keys come in either spelling."""
        pairs = []
        for name, value in fields.items():
            if value is None and self.chance(0.5):
                continue
            pairs.append((camel(name) if self.chance(0.1) else name, value))
        return Object(pairs)

    def map(self, names: Any, make: Any, most: int = 3) -> Object:
        return Object([(self.pick(names), make()) for _ in range(self.random.randint(0, most))])

    def ids(self) -> dict[str, str]:
        return {"id": self.id(), "account_id": "x", "environment_id": "x"}

    def definition(self, entity_type: str | None = None) -> Object:
        return self.object(
            id=self.pick(DEFINITIONS),
            comparable_type=self.pick(COMPARABLES),
            entity_type=entity_type or self.pick(("company", "user")),
        )

    def condition(self) -> Object:
        kind = self._theme if self._theme and self.chance(0.8) else self.pick(CONDITION_TYPES)
        if self.chance(0.02):
            kind = "mystery"
        # A group of fields that this type does not read is there now and then all the same.
        stray = self.chance(0.1)
        is_trait, is_credit = kind == "trait" or stray, kind == "credit" or stray
        is_metered = kind in ("metric", "credit") or stray
        return self.object(
            **self.ids(),
            condition_type=kind,
            operator=self.pick(OPERATORS) if self.chance(0.97) else "mystery",
            resource_ids=self.maybe(lambda: self.some(self.id, 3), 0.9),
            event_subtype=self.maybe(lambda: self.pick(EVENTS), 0.9) if is_metered else None,
            metric_value=self.maybe(self.integer, 0.9) if kind == "metric" or stray else None,
            metric_period=self.maybe(lambda: self.pick(PERIODS)) if is_metered else None,
            metric_period_month_reset=self.maybe(lambda: self.pick(RESETS)) if is_metered else None,
            credit_id=self.maybe(lambda: self.pick(CREDITS), 0.95) if is_credit else None,
            consumption_rate=self.maybe(self.number, 0.6) if is_credit else None,
            quantity_rates=self.maybe(self.rates, 0.5) if is_credit else None,
            trait_definition=self.maybe(self.definition, 0.95) if is_trait else None,
            trait_value=self.text(),
            comparison_trait_definition=(
                self.maybe(self.definition, 0.3) if kind in ("trait", "metric") or stray else None
            ),
        )

    def rates(self) -> Object:
        return self.map(QUANTITIES, lambda: self.maybe(self.number, 0.9), 6)

    def rule(self) -> Object:
        return self.object(
            **self.ids(),
            flag_id=self.maybe(self.id, 0.9),
            rule_type=self.pick(RULE_TYPES),
            name=self.pick(("n", 'a "b"', "", "ü")),
            priority=self.integer(),
            conditions=self.maybe(lambda: self.some(self.condition, 3), 0.9),
            condition_groups=self.maybe(
                lambda: self.some(
                    lambda: self.object(
                        conditions=self.maybe(lambda: self.some(self.condition, 2), 0.95)
                    ),
                    2,
                ),
                0.4,
            ),
            value=self.chance(0.5),
        )

    def flag(self) -> Object:
        return self.object(
            **self.ids(),
            key=self.pick(("k", "k", "l")),
            rules=self.maybe(lambda: self.some(self.rule, 4), 0.95),
            default_value=self.chance(0.4),
        )

    def solo_flag(self) -> Object:
        """One standard rule with one condition: the value tells whether it holds."""
        rule = self.object(
            id="solo",
            account_id="x",
            environment_id="x",
            rule_type="standard",
            name="n",
            priority=Raw("0"),
            conditions=[self.condition()],
            value=True,
        )
        return self.object(**self.ids(), key="k", rules=[rule], default_value=False)

    def trait(self) -> Object:
        return self.object(trait_definition=self.maybe(self.definition, 0.95), value=self.text())

    def metric(self) -> Object:
        return self.object(
            account_id="x",
            environment_id="x",
            company_id="x",
            event_subtype=self.pick(EVENTS),
            period=self.pick(PERIODS),
            month_reset=self.pick(RESETS),
            value=self.integer(),
            created_at="x",
            valid_until=self.maybe(lambda: "x", 0.2),
        )

    def entitlement(self) -> Object:
        few = 0.4
        return self.object(
            feature_id=self.id(),
            feature_key=self.pick(("k", "l", "m")),
            value_type=self.pick(VALUE_TYPES),
            allocation=self.maybe(self.integer, few),
            soft_limit=self.maybe(self.integer, few),
            usage=self.maybe(self.integer, few),
            event_name=self.maybe(lambda: self.pick(EVENTS), few),
            event_subtype=self.maybe(lambda: self.pick(EVENTS), few),
            metric_period=self.maybe(lambda: self.pick(PERIODS), few),
            month_reset=self.maybe(lambda: self.pick(RESETS), few),
            metric_reset_at=self.maybe(lambda: self.pick(INSTANTS), few),
            credit_id=self.maybe(lambda: self.pick(CREDITS), few),
            credit_total=self.maybe(self.number, few),
            credit_used=self.maybe(self.number, few),
            credit_remaining=self.maybe(self.number, few),
            credit_reserved=self.maybe(self.number, few),
            credit_settled=self.maybe(self.number, few),
            consumption_rate=self.maybe(self.number, few),
            quantity_rates=self.maybe(self.rates, few),
            warning_tiers=self.maybe(
                lambda: self.some(lambda: self.object(key=self.id(), value=self.integer()), 2), few
            ),
        )

    def policy(self) -> Object:
        return self.object(
            id=self.maybe(self.id, 0.9),
            credit_id=self.maybe(lambda: self.pick(CREDITS), 0.95),
            kind=self.maybe(
                lambda: self.pick(("per_draw", "per_draw", "window", "window", "odd")), 0.95
            ),
            scope=self.maybe(lambda: self.pick(("company", "user", "group", "odd")), 0.9),
            company_id=self.maybe(self.id, 0.4),
            label=self.maybe(self.id, 0.3),
            limit=self.maybe(self.number, 0.9),
            consumed=self.maybe(self.number),
            window=self.maybe(
                lambda: self.object(
                    unit=self.maybe(lambda: self.pick(("day", "month", "")), 0.9),
                    count=self.maybe(self.integer, 0.6),
                )
            ),
            resets_at=self.maybe(lambda: self.pick(INSTANTS)),
        )

    def entity(self) -> dict[str, Any]:
        return {
            **self.ids(),
            "keys": self.maybe(lambda: self.map(("k1", "k2"), self.id), 0.8),
            "traits": self.maybe(lambda: self.some(self.trait, 9 if self.chance(0.2) else 5), 0.95),
            "rules": self.maybe(lambda: self.some(self.rule, 2), 0.5),
            "credit_spend_policies": self.maybe(
                lambda: self.some(self.policy, 2), 0.9 if self._theme == "credit" else 0.2
            ),
        }

    def company(self) -> Object:
        id_list = lambda: self.some(self.id, 9 if self.chance(0.1) else 3)  # noqa: E731
        return self.object(
            **self.entity(),
            base_plan_id=self.maybe(self.id),
            billing_product_ids=self.maybe(id_list),
            credit_balances=self.maybe(lambda: self.map(CREDITS, self.number), 0.9),
            credit_postpaid=self.maybe(
                lambda: self.map(
                    CREDITS,
                    lambda: self.maybe(
                        lambda: self.object(overdraft_limit=self.maybe(self.number)), 0.9
                    ),
                ),
                0.2,
            ),
            entitlements=self.maybe(lambda: self.some(self.entitlement, 3), 0.7),
            metrics=self.maybe(lambda: self.some(self.metric, 14 if self.chance(0.2) else 5), 0.9),
            plan_ids=self.maybe(id_list),
            plan_version_ids=self.maybe(id_list),
            subscription=self.maybe(
                lambda: self.object(
                    id="x", period_start=self.pick(INSTANTS), period_end=self.pick(INSTANTS)
                ),
                0.8,
            ),
        )

    def options(self) -> Object:
        fields: list[tuple[str, Any]] = []
        if self.chance(0.4):
            fields.append(("usage", self.maybe(self.integer, 0.95)))
        if self.chance(0.4):
            event = Object([("event_subtype", self.pick(EVENTS)), ("quantity", self.integer())])
            fields.append(("event_usage", self.maybe(lambda: event, 0.95)))
        if self.chance(0.4):
            amount = lambda: self.maybe(lambda: Raw(str(self.number()).lstrip("-")), 0.95)  # noqa: E731
            event = Object([("event_subtype", self.pick(EVENTS))])
            if self.chance(0.4):
                event.pairs.append(("quantity", amount() if self.chance(0.8) else self.number()))
            if self.chance(0.9):
                event.pairs.append(("quantities", self.map(QUANTITIES, amount, 6)))
            fields.append(("event_quantities", event))
        if self.chance(0.3):
            fields.append(("credit_cost", self.map(CREDITS, self.number, 2)))
        return Object(fields)

    def envelope(self) -> Object:
        self._theme = self.pick(("credit", "metric", "trait")) if self.chance(0.4) else None
        flag = self.solo_flag() if self.chance(0.4) else self.flag()
        fields: list[tuple[str, Any]] = [("flag", flag)]
        for name, make, probability in (
            ("company", self.company, 0.93),
            ("user", lambda: self.object(**self.entity()), 0.7),
            ("options", self.options, 0.5),
        ):
            if self.chance(probability):
                fields.append((name, make()))
            elif self.chance(0.3):
                fields.append((name, None))
        return Object(fields)

    def batch(self) -> Object:
        """An envelope of the bulk check."""
        single = self.envelope()
        flags = self.some(self.flag, 3)
        return Object([("flags", flags), *[pair for pair in single.pairs if pair[0] != "flag"]])

    def broken(self, envelope: Object) -> str:
        """The text of the envelope with one thing about it made odd: the engine refuses most."""
        if self.chance(0.15):
            return self.broken_text(write(envelope))
        target = self.pick(objects_of(envelope))
        if self.chance(0.1):
            fields = write([value for _, value in target.pairs])
            return write(envelope).replace(write(target), fields, 1)
        self.break_object(target)
        return write(envelope)

    def break_object(self, target: Object) -> None:
        """Leave out, double, misspell or replace one field of the object."""
        if not target.pairs:
            target.pairs.append(("id", "x"))
        position = self.random.randrange(len(target.pairs))
        name, value = target.pairs[position]
        match self.random.randrange(8):
            case 0:
                del target.pairs[position]
            case 1:
                target.pairs[position] = (name, None)
            case 2:
                target.pairs.append((self.pick((name, camel(name))), value))
            case 3:
                target.pairs[position] = (camel(name), value)
            case 4:
                target.pairs[position] = (name, Raw(self.pick(ODD_VALUES)))
            case 5:
                target.pairs.append((self.pick(("zz", "extra", "")), Raw(self.pick(ODD_VALUES))))
            case 6 if isinstance(value, list):
                value.insert(self.random.randrange(len(value) + 1), Raw(self.pick(ODD_VALUES)))
            case _:
                target.pairs[position] = (name, Object([(str(value), None)]))

    def broken_text(self, text: str) -> str:
        at = self.random.randrange(len(text))
        match self.random.randrange(5):
            case 0:
                return text[:at] + text[at + 1 :]
            case 1:
                return text[:at]
            case 2:
                return text + self.pick((" ", "\n\t\r ", "x", "{}", "\u00a0", "\u0000"))
            case 3:
                return self.pick((" ", "\ufeff", "\n", "[")) + text
            case _:
                return (
                    text[:at]
                    + self.pick(('"', "\\", "\\ud800", "\u0001", "1", "-", ".", "e", "}", ","))
                    + (text[at:])
                )
