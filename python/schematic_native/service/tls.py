"""TLS for blocking sockets: which authorities are trusted, and what a fork must wait for.

A certificate is always verified: there is no way to turn that off.
"""

from __future__ import annotations

import os
import ssl
import threading

# All of this is imported here and not where it is used: if another thread is importing during a fork,
# the child inherits a locked module.
try:
    import certifi
except ImportError:  # it comes with httpx
    certifi = None  # type: ignore[assignment]

# OpenSSL holds locks of its own while a TLS context is made and during a handshake. A child forked in the
# meantime would inherit them locked for ever, so a fork waits for this lock.
using_openssl = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=using_openssl.acquire,
        after_in_parent=using_openssl.release,
        after_in_child=using_openssl.release,
    )

# For clients that only ever speak plain HTTP: it trusts nobody, and costs no reading of certificates.
with using_openssl:
    TRUSTING_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def make_context() -> ssl.SSLContext:
    """Return a TLS context.

    It trusts the authorities that SSL_CERT_FILE or SSL_CERT_DIR name, or else certifi's, or else the
    system's.
    """
    is_configured = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    authorities = None if is_configured or certifi is None else certifi.where()
    context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["http/1.1"])
    return context
