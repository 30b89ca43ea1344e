"""The REST resources of the published package, as attributes of our clients.

`client.companies`, `client.plans` and all the others come from the installed `schematichq`, which is never
imported before one of them is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from schematic_native.service.internals import hint_for

if TYPE_CHECKING:
    from schematic.accesstokens.client import AccesstokensClient, AsyncAccesstokensClient
    from schematic.accounts.client import AccountsClient, AsyncAccountsClient
    from schematic.billing.client import AsyncBillingClient, BillingClient
    from schematic.catalogs.client import AsyncCatalogsClient, CatalogsClient
    from schematic.checkout.client import AsyncCheckoutClient, CheckoutClient
    from schematic.companies.client import AsyncCompaniesClient, CompaniesClient
    from schematic.components.client import AsyncComponentsClient, ComponentsClient
    from schematic.componentspublic.client import (
        AsyncComponentspublicClient,
        ComponentspublicClient,
    )
    from schematic.core.request_options import RequestOptions
    from schematic.credits.client import AsyncCreditsClient, CreditsClient
    from schematic.dataexports.client import AsyncDataexportsClient, DataexportsClient
    from schematic.entitlements.client import AsyncEntitlementsClient, EntitlementsClient
    from schematic.events.client import AsyncEventsClient, EventsClient
    from schematic.features.client import AsyncFeaturesClient, FeaturesClient
    from schematic.insights.client import AsyncInsightsClient, InsightsClient
    from schematic.integrationsapi.client import AsyncIntegrationsapiClient, IntegrationsapiClient
    from schematic.licenses.client import AsyncLicensesClient, LicensesClient
    from schematic.planbundle.client import AsyncPlanbundleClient, PlanbundleClient
    from schematic.plangroups.client import AsyncPlangroupsClient, PlangroupsClient
    from schematic.planmigrations.client import AsyncPlanmigrationsClient, PlanmigrationsClient
    from schematic.plans.client import AsyncPlansClient, PlansClient
    from schematic.raw_base_client import AsyncRawBaseSchematic, RawBaseSchematic
    from schematic.scheduledcheckout.client import (
        AsyncScheduledcheckoutClient,
        ScheduledcheckoutClient,
    )
    from schematic.webhooks.client import AsyncWebhooksClient, WebhooksClient

    from schematic_native.config.settings import Settings
    from schematic_native.service.management import Management

# The resources of schematichq 1.4.6. Those that a later version adds are found as well.
NAMES = (
    "accesstokens",
    "accounts",
    "billing",
    "catalogs",
    "checkout",
    "companies",
    "components",
    "componentspublic",
    "credits",
    "dataexports",
    "delete_api_keys_api_key_id",
    "delete_environments_environment_id",
    "entitlements",
    "events",
    "features",
    "get_credit_ledger",
    "insights",
    "integrationsapi",
    "licenses",
    "planbundle",
    "plangroups",
    "planmigrations",
    "plans",
    "post_api_keys",
    "post_environments",
    "put_api_keys_api_key_id",
    "put_environments_environment_id",
    "scheduledcheckout",
    "webhooks",
    "with_raw_response",
)


class _Managed:
    """A client that may have a client of the published package."""

    _is_asynchronous: ClassVar[bool] = False
    _settings: Settings
    _closed: bool

    def _manage(self) -> Management:
        """Return the `Management` of this process.

        A forked child makes its own and never touches its parent's. This takes no lock, as a signal
        handler may interrupt it and call it again.
        """
        from schematic_native.service.management import Management  # noqa: PLC0415 - loads httpx

        made: dict[int, Management] = self.__dict__.setdefault("_managements", {})
        mine = made.get(os.getpid())
        if mine is None:
            new = Management(self._settings, asynchronous=self._is_asynchronous)
            mine = made.setdefault(os.getpid(), new)
        return mine

    def _managed(self) -> Management | None:
        """Return the same if a resource has been used, else None."""
        made: dict[int, Management] = self.__dict__.get("_managements", {})
        return made.get(os.getpid())

    def _find_resource(self, name: str) -> Any:
        published = self._manage().published(closed=self._closed)
        if published is not None:
            return getattr(published, name)
        raise AttributeError(
            f"{type(self).__name__}.{name} needs the published package: "
            "pip install 'schematic-native[management]'"
        )

    def _close_resources(self) -> None:
        managed = self._managed()
        if managed is not None:
            managed.close()

    async def _close_resources_async(self) -> None:
        managed = self._managed()
        if managed is not None:
            await managed.aclose()


class _OnDemand:
    """An attribute that comes from the published package; one that the program sets takes precedence."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.__doc__ = f"`{name}` of the published package, with the configuration of this client."

    def __get__(self, client: _Managed | None, kind: type) -> Any:
        return self if client is None else client._find_resource(self._name)  # noqa: SLF001


if TYPE_CHECKING:
    # ruff: noqa: D102, E704

    class Resources(_Managed):
        """The resources of a synchronous client."""

        @property
        def accesstokens(self) -> AccesstokensClient: ...
        @property
        def accounts(self) -> AccountsClient: ...
        @property
        def billing(self) -> BillingClient: ...
        @property
        def catalogs(self) -> CatalogsClient: ...
        @property
        def checkout(self) -> CheckoutClient: ...
        @property
        def companies(self) -> CompaniesClient: ...
        @property
        def components(self) -> ComponentsClient: ...
        @property
        def componentspublic(self) -> ComponentspublicClient: ...
        @property
        def credits(self) -> CreditsClient: ...
        @property
        def dataexports(self) -> DataexportsClient: ...
        @property
        def entitlements(self) -> EntitlementsClient: ...
        @property
        def events(self) -> EventsClient: ...
        @property
        def features(self) -> FeaturesClient: ...
        @property
        def insights(self) -> InsightsClient: ...
        @property
        def integrationsapi(self) -> IntegrationsapiClient: ...
        @property
        def licenses(self) -> LicensesClient: ...
        @property
        def planbundle(self) -> PlanbundleClient: ...
        @property
        def plangroups(self) -> PlangroupsClient: ...
        @property
        def planmigrations(self) -> PlanmigrationsClient: ...
        @property
        def plans(self) -> PlansClient: ...
        @property
        def scheduledcheckout(self) -> ScheduledcheckoutClient: ...
        @property
        def webhooks(self) -> WebhooksClient: ...
        @property
        def with_raw_response(self) -> RawBaseSchematic: ...
        def delete_api_keys_api_key_id(
            self, api_key_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        def delete_environments_environment_id(
            self, environment_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        def get_credit_ledger(self, *, request_options: RequestOptions | None = None) -> None: ...
        def post_api_keys(self, *, request_options: RequestOptions | None = None) -> None: ...
        def post_environments(self, *, request_options: RequestOptions | None = None) -> None: ...
        def put_api_keys_api_key_id(
            self, api_key_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        def put_environments_environment_id(
            self, environment_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...

    class AsyncResources(_Managed):
        """What is there for an asynchronous client."""

        @property
        def accesstokens(self) -> AsyncAccesstokensClient: ...
        @property
        def accounts(self) -> AsyncAccountsClient: ...
        @property
        def billing(self) -> AsyncBillingClient: ...
        @property
        def catalogs(self) -> AsyncCatalogsClient: ...
        @property
        def checkout(self) -> AsyncCheckoutClient: ...
        @property
        def companies(self) -> AsyncCompaniesClient: ...
        @property
        def components(self) -> AsyncComponentsClient: ...
        @property
        def componentspublic(self) -> AsyncComponentspublicClient: ...
        @property
        def credits(self) -> AsyncCreditsClient: ...
        @property
        def dataexports(self) -> AsyncDataexportsClient: ...
        @property
        def entitlements(self) -> AsyncEntitlementsClient: ...
        @property
        def events(self) -> AsyncEventsClient: ...
        @property
        def features(self) -> AsyncFeaturesClient: ...
        @property
        def insights(self) -> AsyncInsightsClient: ...
        @property
        def integrationsapi(self) -> AsyncIntegrationsapiClient: ...
        @property
        def licenses(self) -> AsyncLicensesClient: ...
        @property
        def planbundle(self) -> AsyncPlanbundleClient: ...
        @property
        def plangroups(self) -> AsyncPlangroupsClient: ...
        @property
        def planmigrations(self) -> AsyncPlanmigrationsClient: ...
        @property
        def plans(self) -> AsyncPlansClient: ...
        @property
        def scheduledcheckout(self) -> AsyncScheduledcheckoutClient: ...
        @property
        def webhooks(self) -> AsyncWebhooksClient: ...
        @property
        def with_raw_response(self) -> AsyncRawBaseSchematic: ...
        async def delete_api_keys_api_key_id(
            self, api_key_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        async def delete_environments_environment_id(
            self, environment_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        async def get_credit_ledger(
            self, *, request_options: RequestOptions | None = None
        ) -> None: ...
        async def post_api_keys(self, *, request_options: RequestOptions | None = None) -> None: ...
        async def post_environments(
            self, *, request_options: RequestOptions | None = None
        ) -> None: ...
        async def put_api_keys_api_key_id(
            self, api_key_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...
        async def put_environments_environment_id(
            self, environment_id: str, *, request_options: RequestOptions | None = None
        ) -> None: ...

else:

    class Resources(_Managed):
        """The resources of a synchronous client."""

        def __getattr__(self, name: str) -> Any:
            # Whatever a later release adds. An attribute that raised comes here as well.
            if name in NAMES or (not name.startswith("_") and self._manage().knows(name)):
                return self._find_resource(name)
            hint = hint_for(name, NAMES)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    for _name in NAMES:
        setattr(Resources, _name, _OnDemand(_name))

    class AsyncResources(Resources):
        """What is there for an asynchronous client."""

        _is_asynchronous = True
