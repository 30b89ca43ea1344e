"""Commands as they are sent: the bytes must be those that redis-py would send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from schematic_native.redis import scripts
from schematic_native.redis.commands import Command, call
from schematic_native.redis.resp import packed

KEYS = st.text(st.characters(exclude_categories=["Cs"]))
# Bytes that are not UTF-8 were read with "surrogateescape", and go back as they came.
BYTES = st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
WORDS = st.lists(KEYS | BYTES | st.integers(-(2**63), 2**63 - 1))


def as_redis_py_sends(*words: str | int) -> bytes:
    return b"".join(Connection(encoding_errors="surrogateescape").pack_command(*words))


@given(KEYS, WORDS)
def test_a_batch_is_packed_as_redis_py_packs_its_commands(key, words):
    batch = [Command(key, ("HMGET", *words)), call(scripts.SETTLE, key, *words)]
    text = scripts.SETTLE.text
    plain = as_redis_py_sends("HMGET", *words)
    assert packed(batch, in_full=True, asking=False) == plain + as_redis_py_sends(
        "EVAL", text, 4, key, *words
    )
    asked = packed(batch[:1], in_full=False, asking=True)
    assert asked == as_redis_py_sends("ASKING") + plain


@given(KEYS, WORDS)
def test_a_script_that_the_server_knows_is_called_by_its_digest(key, words):
    sent = packed([call(scripts.RESERVE, key, *words)], in_full=False, asking=False)
    digest = sent.split(b"\r\n")[4].decode()
    assert sent == as_redis_py_sends("EVALSHA", digest, 1, key, *words)
