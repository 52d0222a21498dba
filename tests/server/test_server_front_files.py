"""nginx in front: who sends the files, byte for byte (ADR 72)."""

import hashlib
from pathlib import Path

import pytest
from buckets import CREDENTIALS, Moto
from buckets import fronted as before_it
from fronts import FILES, ME, Fronted, ask_for, given, opened
from lifeline import until
from server_world import Built, Device, Keys, Server, build_release, client_context
from test_server_refusals import traces

from fota_wire import checkin

pytestmark = pytest.mark.usefixtures("fronted")


def test_files_are_sent_by_nginx_and_only_by_the_servers_word(fronted: Fronted, big: Built) -> None:
    device = given(fronted.server, big)
    path = f"/v1/payload/{big.digest}"
    kept = fronted.server.data / "artifacts" / big.digest[:2] / big.digest
    said = ask_for(fronted, device, path)
    assert b"\r\nx-accel-redirect: " + f"{FILES}/{big.digest[:2]}/{big.digest}\r\n".encode() in said
    assert said.endswith(b"\r\n\r\n"), "no byte of it came from the server"
    assert device.request("GET", path)[2] == big.file
    inside = f"{FILES}/{big.digest[:2]}/{big.digest}"
    for outside in (
        inside,
        inside.replace("/fota", "//fota"),
        f"/v1/../{inside}",
        inside.replace("-", "%2d"),
    ):
        status, _, body = device.request("GET", outside)
        assert (status >= 400, big.file[:64] in body) == (True, False)
    stranger = Device(fronted.server)
    assert stranger.request("GET", path)[0] == 403
    fronted.server.device_port = fronted.direct_port
    direct = Device(fronted.server, device.id, key=device.key)
    try:
        status, headers, body = direct.request("GET", path)
    finally:
        fronted.server.device_port = fronted.nginx.port
    assert (status, body, "x-accel-redirect" in headers) == (200, big.file, False), "that is no front"
    assert kept.read_bytes() == big.file


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_range_is_answered_byte_for_byte_as_by_the_server_itself(
    fronted: Fronted, big: Built, method: str
) -> None:
    device, size, etag = given(fronted.server, big), len(big.file), f'"{big.digest}"'
    direct = Device(fronted.server, device.id, key=device.key)
    path = f"/v1/payload/{big.digest}"
    ranges = (
        "bytes=0-0", "bytes=0-4095", "bytes=4096-8191", f"bytes={size - 1}-", f"bytes={size - 1}-{size}",
        f"bytes={size}-", f"bytes={size - 5000}-", "bytes=-1", f"bytes=-{size}", f"bytes=-{size + 1}",
        "bytes=-0", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "bytes=0-1,", "bytes = 1-2",
        "bytes= 1-2", "bytes=1 -2",
        "BYTES=1-2", "lines=0-1", "bytes=1e3-", "bytes=" + "9" * 18 + "-", "bytes=" + "9" * 19 + "-",
        "bytes=1-" + "9" * 18, "bytes=1-" + "9" * 19, "bytes=-" + "9" * 19, "",
    )  # fmt: skip
    asked: list[dict[str, str]] = [{}, *({"range": one} for one in ranges)]
    for condition in (etag, '"other"', f"W/{etag}", "", "Mon, 23 Nov 2026 00:00:00 GMT", "*"):
        asked += [
            {"range": "bytes=10-19", "if-range": condition},
            {"range": "bytes=5-4", "if-range": condition},
        ]
        if condition:  # nginx knows no empty one from none, and looks at it
            asked += [{name: condition, "range": "bytes=3-4"} for name in ("if-match", "if-none-match")]
    now = "Fri, 27 Nov 2099 00:00:00 GMT"
    asked += [{name: now, "range": "bytes=3-4"} for name in ("if-modified-since", "if-unmodified-since")]
    told = ("content-length", "content-range", "content-type", "etag", "cache-control", "accept-ranges")
    for headers in asked:
        found = []
        for one, port in ((device, fronted.nginx.port), (direct, fronted.direct_port)):
            fronted.server.device_port = port
            status, answer, body = one.request(method, path, headers=headers)
            fields = {name: answer.get(name) for name in (*told, "last-modified", "x-content-type-options")}
            if status == 206:
                del fields["accept-ranges"]  # said by what it is
            if status == 416:  # nginx says so itself, in its own words, of a range behind the end
                fields, body = {"content-range": fields["content-range"]}, b""
            found.append((status, fields, hashlib.sha256(body).hexdigest()))
            assert answer.get("x-request-id") or status == 416
        fronted.server.device_port = fronted.nginx.port
        if method == "GET" and headers.get("range") == "bytes=5-4" and headers.get("if-range", etag) == etag:
            assert [one[0] for one in found] == [416, 200], "ADR 73, cost"
            continue
        assert found[0] == found[1], headers


def test_ranges_are_sent_by_a_grant_without_another_question(keys: Keys, big: Built, tmp_path: Path) -> None:
    own = Fronted(keys, tmp_path, {"proxy_cache_valid 200 1s;": "proxy_cache_valid 200 1d;"})
    try:
        own.server.publish(big)
        device, path = given(own.server, big), f"/v1/payload/{big.digest}"
        assert device.request("GET", path, headers={"range": "bytes=0-0"})[0] == 206
        assert own.server.process
        own.server.process.kill()
        own.server.process.communicate()
        for begin in range(0, len(big.file), 4096):
            asked = {"range": f"bytes={begin}-{begin + 4095}", "x-request-id": f"r-{begin}"}
            status, answer, body = device.request("GET", path, headers=asked)
            assert (status, body) == (206, big.file[begin : begin + 4096])
            assert answer["x-request-id"] == f"r-{begin}"
        own.server.start()
        own.before_nginx()
    finally:
        own.stop()


def test_grant_is_for_one_certificate_and_ends_with_what_it_was_for(fronted: Fronted, big: Built) -> None:
    server, path = fronted.server, f"/v1/payload/{big.digest}"
    device, stranger, nobody = given(server, big), Device(server), Device(server)
    stranger.check_in()
    nobody.context = client_context(server.keys.server_ca, None)
    assert device.request("GET", path)[0] == 200
    status, _, body = stranger.request("GET", path)
    assert (status, checkin.parse_error(body)[0]) == (403, "not-assigned")
    assert nobody.request("GET", path)[0] == 401
    assert traces(server, stranger.id)["not-assigned"]["count"] == 1, "though nginx asked, too"
    assert server.api("POST", f"devices/{device.id}/revoke")[1]["status"] == "revoked"
    until(lambda: device.request("GET", path)[0] == 403, "the end of the grant")
    clone = Device(server, device.id)
    assert clone.request("GET", path)[0] == 403


def test_download_goes_on_while_nginx_is_reloaded(fronted: Fronted, big: Built) -> None:
    device = given(fronted.server, big)
    before = fronted.nginx.workers()
    with opened(fronted, device) as connection:
        connection.sendall(f"GET /v1/payload/{big.digest} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        data = connection.recv(1000)
        fronted.nginx.reload()
        until(
            lambda: len(fronted.nginx.workers() & before) == 1, "the end of the worker that has nothing to do"
        )
        Device(fronted.server).check_in()
        while len(data.partition(b"\r\n\r\n")[2]) < len(big.file):
            data += connection.recv(1 << 20)
    assert data.partition(b"\r\n\r\n")[2] == big.file
    until(lambda: not fronted.nginx.workers() & before, "the end of the worker that sent it")


def test_files_can_be_read_by_nginx_whatever_the_servers_mask_is(keys: Keys, tmp_path: Path) -> None:
    own = Server(keys, tmp_path / "data").init()
    before, after = (build_release(keys, f"1.{n}.0", n, n) for n in (1, 2))

    def modes(built: Built) -> tuple[str, str]:
        folder = own.data / "artifacts" / built.digest[:2]
        return oct(folder.stat().st_mode & 0o777), oct((folder / built.digest).stat().st_mode & 0o777)

    own.start(umask=0o077)
    own.publish(before)
    assert modes(before) == ("0o700", "0o600")
    own.stop()
    own.configure(front=str(tmp_path / "f.sock"), front_user=ME, front_files=FILES)
    own.start(umask=0o077)
    own.publish(after)
    assert modes(before) == modes(after) == ("0o755", "0o644")
    assert oct((own.data / "artifacts/tmp").stat().st_mode & 0o777) == "0o700"
    assert oct(own.data.stat().st_mode & 0o777) == "0o700", (
        "who gets there is still for the folder above to say"
    )
    assert oct((tmp_path / "f.sock").stat().st_mode & 0o777) == "0o666"
    own.stop()
    assert not (tmp_path / "f.sock").exists()


def test_files_of_a_bucket_are_sent_from_its_cache(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    moto = Moto()
    try:
        with before_it(moto) as bucket:
            own = Fronted(keys, tmp_path, **bucket.settings)
            try:
                built = build_release(keys, "1.1.0", 2, 2, size=150_000)
                assert own.server.publish(built)[0] == 201
                device = given(own.server, built)
                for path in (own.server.data / "cache").glob("??/*"):
                    path.unlink()
                path = f"/v1/payload/{built.digest}"
                assert device.request("GET", path)[2] == built.file, "fetched, and then sent"
                assert b"x-accel-redirect" in ask_for(own, device, path)
                assert device.request("GET", path, headers={"range": "bytes=7-9"})[2] == built.file[7:10]
            finally:
                own.stop()
    finally:
        moto.stop()
