"""Whom a transport trusts, and how its secure connections end."""

from __future__ import annotations

import socket
import ssl

import pytest

from schematic_native.service import connections
from schematic_native.service.tls import using_openssl
from tests.conftest import eventually_async
from tests.service.peers import HOST, Peer, dripping, frozen, sending, status, taking, taking_one

pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.mark.usefixtures("trusted")
async def test_an_authority_that_the_environment_names_is_trusted(certified):
    with Peer(taking, context=certified) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(3)] == [200] * 3
        assert peer.connections == 1


async def test_an_unknown_authority_is_not_trusted(certified):
    with Peer(taking, context=certified) as peer:
        async with sending() as sender:
            with pytest.raises(ssl.SSLCertVerificationError):
                await status(sender, peer.url)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_of_another_host_is_refused(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("another.invalid").configure_cert(context)
    with Peer(taking, context=context) as peer:
        async with sending() as sender:
            with pytest.raises(ssl.SSLCertVerificationError):
                await status(sender, peer.url)


async def test_a_given_tls_context_is_used(certified, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Peer(taking, context=certified) as peer:
        async with sending(context=context) as sender:
            assert await status(sender, peer.url) == 200


@pytest.mark.usefixtures("trusted")
async def test_a_secure_connection_that_was_closed_while_it_was_kept_is_replaced(certified):
    with Peer(taking_one, context=certified) as peer:
        async with sending() as sender:
            assert [await status(sender, peer.url) for _ in range(3)] == [200] * 3
        assert peer.connections == 3


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("serve", [frozen, dripping])
async def test_a_secure_request_ends_at_its_timeout(certified, serve):
    with Peer(serve, context=certified) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await status(sender, peer.url, 0.3)
            await eventually_async(lambda: not sender._threads.unfinished)


async def test_a_handshake_without_a_response_ends_at_the_timeout():
    with Peer(frozen) as peer:
        async with sending() as sender:
            with pytest.raises(TimeoutError):
                await status(sender, peer.url.replace("http:", "https:"), 0.2)
            await eventually_async(lambda: not sender._threads.unfinished)
            assert not using_openssl.locked()


def test_aborting_a_secure_request_leaves_the_socket_secure(certified, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)

    with (
        Peer(taking, context=certified) as peer,
        socket.create_connection(("127.0.0.1", peer.port)) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        exchange = connections.Exchange(10.0)
        exchange.uses(secure)
        exchange.abort()
        assert secure.version() is not None, "what is sent from now on would be in the clear"
        with pytest.raises(OSError, match=r".*"):
            secure.sendall(b"secret")
