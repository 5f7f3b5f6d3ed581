"""The contexts file: what is written is read back, nobody else can read it, and a broken one says where."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from creditd.cli.context_file import Context, ContextError, Contexts, is_exposed, load, save, target_of


def none(_name: str) -> str:
    return ""


def test_contexts_are_read_back_as_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "contexts.json"
    contexts = Contexts().put("local", Context("127.0.0.1:50051"))
    contexts = contexts.put("prod", Context("https://creditd.example.com", api_key="k" * 40)).using("prod")

    save(path, contexts)

    assert load(path) == contexts
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["contexts.json"]


def test_an_open_file_becomes_private_and_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "contexts.json"
    real.write_text("{}")
    real.chmod(0o644)
    link.symlink_to(real)

    save(link, Contexts().put("a", Context("a:1")))

    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert list(load(real).known) == ["a"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "contexts.json"
    save(path, Contexts().put("a", Context("a:1")))

    with pytest.raises(TypeError):
        save(path, Contexts("a", {"a": Context(b"a:1")}))  # type: ignore[arg-type]  # no JSON

    assert list(load(path).known) == ["a"]
    assert [each.name for each in tmp_path.iterdir()] == ["contexts.json"]


def test_no_file_and_an_empty_one_have_no_contexts(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    assert load(tmp_path / "missing") == load(tmp_path / "empty") == load(Path("/dev/null")) == Contexts()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n  "contexts": {,\n}', r"contexts.json:2:16 is no JSON"),
        ("[]", "is not of the form"),
        ('{"contexts": []}', "is not of the form"),
        ('{"contexts": {"a": "b"}}', "context 'a' is not an object of texts"),
        ('{"contexts": {"a": {"address": 5}}}', "context 'a' is not an object of texts"),
        ('{"contexts": {"a": {"adress": "x:1"}}}', "unknown field 'adress'; did you mean 'address'"),
        ('{"contexts": {"a": {"address": "x"}}}', "'x' is no address"),
        ('{"contexts": {"a": {}}}', "'' is no address"),
        ('{"contexts": {"a b": {"address": "x:1"}}}', "is no name for a context"),
        ('{"current": "b", "contexts": {}}', "names a current context 'b'"),
        ('{"current": 5, "contexts": {}}', "names a current context 5"),
        ('{"contexts": {"a": {"address": "x:1", "api_key": "k", "api_key_env": "K"}}}', "more than one of"),
        ('{"contexts": {"a": {"address": "x:1", "api_key": "a\\nb"}}}', "the API key is not printable"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_broken_file_says_where_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "contexts.json"
    path.write_text(text)

    with pytest.raises(ContextError) as error:
        load(path)

    assert said in str(error.value)
    assert "correct it, or remove the file" in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff")

    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "latin", "not UTF-8")):
        with pytest.raises(ContextError, match=f"{path}: .*{why}"):
            load(path)


def test_a_key_comes_from_the_file_a_variable_or_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")

    assert Context("a:1").key(none) == ""
    assert Context("a:1", api_key="here").key(none) == "here"
    assert Context("a:1", api_key_env="K").key({"K": "from-variable"}.__getitem__) == "from-variable"
    assert Context("a:1", api_key_file=str(tmp_path / "key")).key(none) == "from-file"


def test_a_key_that_is_not_there_is_told_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for context, said in (
        (Context("a:1", api_key_env="K"), "variable K, which is not set"),
        (Context("a:1", api_key_file="/missing"), "cannot read the API key from /missing"),
        (Context("a:1", api_key_file=str(tmp_path / "empty")), "which is empty"),
    ):
        with pytest.raises(ContextError, match=said):
            context.key(none)
    with pytest.raises(ContextError) as error:
        Context("a:1", api_key_env="K").key(lambda _name: "tooth\npaste")
    assert "tooth" not in str(error.value)


def test_a_key_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Context("a:1", api_key="secret"))


def test_keys_that_others_can_read_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "contexts.json"
    keyed = Contexts().put("a", Context("a:1", api_key="k"))
    save(path, keyed)
    assert not is_exposed(path, keyed)

    path.chmod(0o644)

    assert is_exposed(path, keyed)
    assert not is_exposed(path, Contexts().put("a", Context("a:1", api_key_env="K")))
    assert json.loads(path.read_text())["contexts"]["a"]["api_key"] == "k"


@pytest.mark.parametrize(
    ("address", "target", "tls"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", False),
        ("http://creditd:80/", "creditd:80", False),
        ("https://creditd.example.com", "creditd.example.com:443", True),
        ("https://[::1]", "[::1]:443", True),
        ("https://creditd:8443", "creditd:8443", True),
        ("[::1]:50051", "[::1]:50051", False),
        ("unix:/run/creditd.sock", "unix:/run/creditd.sock", False),
    ],
)
def test_addresses(address: str, target: str, tls: bool) -> None:
    assert target_of(address) == (target, tls)


@pytest.mark.parametrize(
    "address",
    ["", "creditd", "creditd:", ":50051", "creditd:0", "creditd:70000", "::1:50051", "ftp://a:1", "unix:", "https://",
     "a:1/path", "user@a:1", "a b:1", "https://a:x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ContextError, match="expected host:port"):
        target_of(address)
