"""Entities as JSON documents: passing one to the core, and applying a partial update to one.

The core merges the entities that it decides with; this merges those that are written to shared caches. A
document that is passed in is never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schematic_native.ground import json_text

if TYPE_CHECKING:
    from schematic_native._native import Core
    from schematic_native.ground.fault_log import FaultLog

Document = dict[str, Any]


def ingest(
    core: Core, faults: FaultLog, topic: str, entity_type: str, message_type: str, data: Any
) -> bool:
    """Pass an entity from a cache to the core, as a message of the DataStream; return whether it could read it.

    What it cannot read is logged under the topic.
    """
    message = {"entity_type": entity_type, "message_type": message_type, "data": data}
    try:
        ingested = core.ingest(json_text.write(message))
    except TypeError as error:
        faults.noted(f"{topic}: an entity that is no JSON: {error}")
        return False
    for sentence in ingested.skipped:
        faults.noted(f"{topic}: {sentence}")
    return not ingested.skipped


def as_document(value: Any) -> Document | None:
    """Return an entity that a cache has returned: a mapping, or the published package's model."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        value = dump(mode="json")
    return value if isinstance(value, dict) else None


def lookup_keys(document: Document | None) -> list[tuple[str, str]]:
    """Return the lookup keys of an entity in lower case: names and values compare case-insensitively."""
    keys = (document or {}).get("keys") or {}
    pairs = (
        (name.lower(), value.lower())
        for name, value in keys.items()
        if isinstance(name, str) and isinstance(value, str)
    )
    return list(dict.fromkeys(pairs))


def merged_company(document: Document, partial: Document) -> Document:
    """Apply a partial update to a company.

    Keys and balances are merged by name and metrics by row; everything else is replaced. Entitlements
    follow the balances and metrics, unless the update has its own.
    """
    leased = {
        credit: line["remaining"]
        for credit, line in (partial.get("credit_lease_balance") or {}).items()
        if isinstance(line, dict) and "remaining" in line
    }
    moved = {**(partial.get("credit_balances") or {}), **leased}
    merged = {**document, **partial}
    merged.pop("credit_lease_balance", None)
    merged["keys"] = {**(document.get("keys") or {}), **(partial.get("keys") or {})}
    merged["credit_balances"] = {**(document.get("credit_balances") or {}), **moved}
    metrics = {_row(metric): metric for metric in document.get("metrics") or []}
    metrics |= {_row(metric): metric for metric in partial.get("metrics") or []}
    merged["metrics"] = list(metrics.values())
    if "entitlements" not in partial and (moved or "metrics" in partial):
        known = metrics if "metrics" in partial else {}
        merged["entitlements"] = [
            _followed(entitlement, moved, known)
            for entitlement in document.get("entitlements") or []
        ]
    return merged


def merged_user(document: Document, partial: Document) -> Document:
    """Apply a partial update to a user: keys are merged, everything else is replaced."""
    keys = {**(document.get("keys") or {}), **(partial.get("keys") or {})}
    return {**document, **partial, "keys": keys}


def with_usage(document: Document, event: str, quantity: int) -> Document:
    """Add usage to the metrics of an event of a company."""
    metrics = [
        {**metric, "value": (metric.get("value") or 0) + quantity}
        if metric.get("event_subtype") == event
        else metric
        for metric in document.get("metrics") or []
    ]
    return {**document, "metrics": metrics}


def _row(metric: Document) -> tuple[str, str, str]:
    return (
        metric.get("event_subtype") or "",
        metric.get("period") or "all_time",
        metric.get("month_reset") or "first_of_month",
    )


def _followed(
    entitlement: Document, moved: dict[str, float], metrics: dict[tuple[str, str, str], Document]
) -> Document:
    followed = dict(entitlement)
    if (credit := entitlement.get("credit_id")) in moved:
        followed["credit_remaining"] = moved[credit]
    if event := entitlement.get("event_name"):
        period = entitlement.get("metric_period") or "all_time"
        reset = entitlement.get("month_reset") or "first_of_month"
        if (row := metrics.get((event, period, reset))) is not None:
            followed["usage"] = row.get("value") or 0
    return followed
