"""API keys in a real store: kept without their secret, listed, forgotten, and each of it written down."""

from ekiden.roles import Role
from ekiden.store import BlockingStore
from ekiden.store.api_keys import create_key, list_keys, make_key, revoke_key
from tests.support.keys import kept_key


def audit(store: BlockingStore) -> list[dict[str, str]]:
    entries = store.redis.xrange(store.keys.audit)
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


def test_a_key_is_kept_without_its_secret(store: BlockingStore) -> None:
    key = kept_key(store, "日本/ö\"'", Role.VIEWER, 'for "x"')
    record = list_keys(store)[key.id]
    assert (record.user, record.role, record.note) == ("日本/ö\"'", Role.VIEWER, 'for "x"')
    assert record.digest == key.digest
    seconds, micros = store.redis.time()
    assert 0 <= seconds * 1000 + micros // 1000 - record.created_ms < 60_000
    secret = key.text.rpartition(f"{key.id}_")[2].encode()
    assert secret not in store.redis.hget(store.keys.api_keys, key.id)


def test_keys_are_listed_from_the_oldest_and_an_unreadable_one_hides_no_other(store: BlockingStore) -> None:
    made = [kept_key(store, f"user-{number}").id for number in range(5)]
    store.redis.hset(store.keys.api_keys, "00000000", "no json")
    store.redis.hset(store.keys.api_keys, "00000001", '{"user":"eve","role":"root","digest":"","created_ms":1}')
    found = list_keys(store)
    assert set(found) == set(made)
    moments = [record.created_ms for record in found.values()]
    assert moments == sorted(moments)
    assert store.run(revoke_key("00000000"))


def test_an_id_that_is_taken_is_not_given_again(store: BlockingStore) -> None:
    key = kept_key(store)
    assert not store.run(create_key(key, "eve", Role.ADMIN, ""))
    assert list_keys(store)[key.id].user == "ada"
    assert len(audit(store)) == 1


def test_a_revoked_key_is_gone_once(store: BlockingStore) -> None:
    key, other = kept_key(store), kept_key(store)
    assert store.run(revoke_key(key.id))
    assert not store.run(revoke_key(key.id))
    assert not store.run(revoke_key(make_key().id))
    assert set(list_keys(store)) == {other.id}


def test_what_is_done_is_written_down(store: BlockingStore) -> None:
    key = kept_key(store, "alice", Role.VIEWER)
    store.run(revoke_key(key.id))
    common = {"user": "", "key": "cli", "target": key.id, "detail": "alice viewer", "outcome": "done"}
    assert audit(store) == [{**common, "action": action} for action in ("key_create", "key_revoke")]
