"""A project of Django, for a server of either kind: `asgi` and `wsgi`."""

from __future__ import annotations

import asyncio
import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

from schematic_native import CreditLeaseConfig, Schematic, SchematicConfig
from schematic_native.integrations.django import held

URL = os.environ["SCHEMATIC_URL"]
client = Schematic(
    os.environ["SCHEMATIC_KEY"],
    SchematicConfig(
        base_url=URL,
        event_capture_url=URL,
        event_buffer_period=0.05,
        use_datastream=True,
        credit_leases=CreditLeaseConfig(mode="client"),
    ),
)
holding = held(client, "inference", company=lambda _, who: {"id": who}, usage=100)


@holding
def plain(_request, who, hold):
    hold.use(7)
    return JsonResponse({"held": hold.held})


@holding
async def plain_async(_request, who, hold):
    await asyncio.sleep(0)
    hold.use(7)
    return JsonResponse({"held": hold.held})


@holding
def stream(_request, who, hold):
    def chunks():
        for number in range(5):
            hold.use(1)
            yield str(number)

    return StreamingHttpResponse(chunks())


@holding
async def stream_async(_request, who, hold):
    async def chunks():
        for number in range(5):
            await asyncio.sleep(0)
            yield str(number)

    return StreamingHttpResponse(hold.stream(chunks(), len))


@holding
def endless(_request, who, hold):
    def chunks():
        while True:
            hold.use(1)
            yield "x" * 100_000

    return StreamingHttpResponse(chunks())


@holding
async def endless_async(_request, who, hold):
    async def chunks():
        while True:
            hold.use(1)
            yield "x" * 100_000
            await asyncio.sleep(0)

    return StreamingHttpResponse(chunks())


@holding
def broken(_request, who, hold):
    hold.use(3)
    raise ValueError("the work has failed")


@holding
async def broken_async(_request, who, hold):
    hold.use(3)
    raise ValueError("the work has failed")


def holds(_request):
    return JsonResponse({"open": client.status().open_holds})


VIEWS = [plain, plain_async, stream, stream_async, endless, endless_async, broken, broken_async]
urlpatterns = [path("holds", holds)]
urlpatterns += [path(f"{view.__name__}/<who>", view) for view in VIEWS]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="only for this test")
django.setup()
asgi = get_asgi_application()
wsgi = get_wsgi_application()
