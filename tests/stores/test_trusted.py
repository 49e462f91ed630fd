"""A password goes to no database server that the user has not named."""

import contextlib
import socket
import threading

import pytest

from peer_cl.errors import InputError, StateError
from stores import Registry
from stores.trusted import check_trusted, trust_database, trusted_list

URL = "postgresql://ann@db.example:5433/notes"


@pytest.fixture(autouse=True)
def config(monkeypatch, tmp_path):
    """The user's configuration folder, a new one."""
    place = tmp_path / "config"
    monkeypatch.setattr("stores.trusted.platformdirs.user_config_dir", lambda _: str(place))
    monkeypatch.delenv("PEER_CL_TRUST_DATABASE", raising=False)
    return place


def is_trusted(url, tmp_path):
    try:
        check_trusted(url, tmp_path / "store.toml")
    except StateError:
        return False
    return True


def test_a_received_store_connects_to_nobody(make, tmp_path, monkeypatch):
    """Nor does the server that it names hear anything."""
    monkeypatch.setenv("PGPASSWORD", "secret")
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def listen():
            with contextlib.suppress(TimeoutError):
                heard.append(server.accept())

        thread = threading.Thread(target=listen)
        thread.start()
        make.store(tmp_path / "k").close()
        url = f"postgresql://ann@127.0.0.1:{server.getsockname()[1]}/name"
        with (tmp_path / "k" / "store.toml").open("a") as file:
            file.write(f'database_url = "{url}"\n')
        told = (
            r"k/store.toml .* at 127.0.0.1, which .* set PEER_CL_TRUST_DATABASE=127.0.0.1, or add "
            f"the line {url} to {trusted_list()};"
        )
        with pytest.raises(StateError, match=told):
            Registry.open(tmp_path / "k")
        thread.join()
    assert heard == []


def test_what_init_made_is_trusted_and_nothing_beside_it(tmp_path, config):
    assert not is_trusted(URL, tmp_path)
    trust_database(URL.replace("ann@", "ann:secret@"))
    trust_database(URL)
    assert (config / "databases.txt").read_text() == f"{URL}\n"
    assert (config / "databases.txt").stat().st_mode & 0o777 == 0o600
    for same in (URL, URL.replace("postgresql:", "postgresql+psycopg:"), URL.replace("db.", "DB.")):
        assert is_trusted(same, tmp_path), same
    for other in (
        URL.replace("5433", "5434"),
        URL.replace("ann", "bob"),
        URL.replace("notes", "orders"),
        URL.replace("db.example", "db.example.org"),
        f"{URL}?host=evil.example",
        f"{URL}?hostaddr=192.0.2.1",
        f"{URL}?service=evil",
    ):
        assert not is_trusted(other, tmp_path), other


@pytest.mark.parametrize(
    ("named", "url", "is_right"),
    [
        ("db.example", URL, True),
        (" other , DB.example ", URL, True),
        ("", URL, False),
        ("example", URL, False),
        ("db.example", "postgresql://ann@db.example,evil.example/notes", False),
        ("db.example", f"{URL}?host=evil.example", False),
        ("db.example", f"{URL}?host=db.example:1&host=evil.example:2", False),
        ("db.example", "postgresql://ann@/notes?host=db.example:1&host=db.example:2", True),
        ("db.example", f"{URL}?hostaddr=192.0.2.1", False),
        ("db.example", f"{URL}?service=evil", False),
        ("db.example", f"{URL}?passfile=/etc/passwd", False),
        ("db.example", f"{URL}?sslmode=verify-full", True),
        ("/run/postgresql", "postgresql://ann@/notes?host=/run/postgresql", True),
        ("/run/postgresql", "postgresql://ann@/notes?host=/tmp/evil", False),
        ("local", "postgresql:///notes", True),
        ("db.example", "postgresql:///notes", False),
        ("local", "postgresql://ann@127.0.0.1/notes", False),
    ],
)
def test_the_environment_names_hosts(named, url, is_right, tmp_path, monkeypatch):
    monkeypatch.setenv("PEER_CL_TRUST_DATABASE", named)
    assert is_trusted(url, tmp_path) is is_right


def test_the_line_that_is_told_is_the_one_that_helps(tmp_path, config):
    url = "postgresql://ann@db.example/notes?service=evil&application_name=b"
    with pytest.raises(StateError, match="If you know it, add the line") as told:
        check_trusted(url, tmp_path)
    config.mkdir()
    line = str(told.value).split("add the line ")[1].split(" to ")[0]
    trusted_list().write_text(f"# mine\n{line}\n")
    assert is_trusted(url, tmp_path)


def test_a_list_that_cannot_be_written_is_told_before_anything_is_made(config, monkeypatch):
    config.write_text("a file")
    with pytest.raises(StateError, match=r"cannot write .*databases.txt.*=db.example, now"):
        trust_database(URL)
    monkeypatch.setenv("PEER_CL_TRUST_DATABASE", "db.example")
    trust_database(URL)


def test_no_password_is_told(tmp_path):
    url = "postgresql://ann:secret@db.example/notes?password=secret"
    with pytest.raises(StateError) as told:
        check_trusted(url, tmp_path)
    assert "secret" not in str(told.value)
    with pytest.raises(InputError, match="cannot be read"):
        check_trusted("postgresql://ann@host:port/name", tmp_path)
