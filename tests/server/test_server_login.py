"""Signing in by OpenID Connect: the judge is oidc-provider, a certified provider, in a process of its own."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lifeline import HANG_S, until
from server_world import FOTA, Keys, Server

from fota_server import oidc
from fota_server.operator_login import LOGINS_AT_ONCE
from fota_wire.errors import InputError

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "build/oidc"
PROVIDER = Path(__file__).parent / "oidc/provider.mjs"
RULES = [
    {"claim": "groups", "value": "fota-admins", "role": "admin"},
    {"claim": "sub", "value": "repo:acme/fw:ref:refs/heads/main", "role": "publisher"},
    {"claim": "groups", "value": "north", "role": "operator", "groups": ["north"]},
]


class Identities:
    """The provider, and the browser of whoever signs in there."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["node", "--input-type=module", "--eval", PROVIDER.read_text()],  # which finds its modules in cwd
            cwd=JUDGE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.issuer = self.said()
        assert self.issuer.startswith("http://127.0.0.1:")

    def said(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def know(self, sub: str, **claims: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"account": {"sub": sub, **claims}}) + "\n")
        self.process.stdin.flush()
        assert self.said() == f"knows {sub}"

    def confirm(self, url: str, sub: str, *, no: bool = False) -> str:
        """Do on the provider's pages what a person would, and return the last one."""
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        page = browser.open(url, timeout=HANG_S)
        for _ in range(6):
            text = page.read().decode()
            form = re.search(r'<form[^>]*action="([^"]+)"', text)
            if not form or "interrupted" in text:
                return text
            fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
            fields |= {"login": sub, "password": "any"} if 'name="login"' in text else {}
            fields |= {"abort": "yes"} if no and "abort" in text else {}
            page = browser.open(urljoin(page.url, form[1]), urlencode(fields).encode(), timeout=HANG_S)
        raise AssertionError(text)

    def stop(self) -> None:
        self.process.communicate(timeout=HANG_S)


@pytest.fixture(scope="module")
def identities() -> Iterator[Identities]:
    if shutil.which("node") is None or not (JUDGE / "node_modules/oidc-provider").is_dir():
        pytest.skip("no oidc-provider: make oracles, which takes Node.js")
    made = Identities()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(identities: Identities, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(keys, tmp_path_factory.mktemp("login") / "data").init()
    settings = {"issuer": identities.issuer, "client_id": "fota", "person": "email", "rules": RULES}
    (made.data / "oidc.json").write_text(json.dumps(settings))
    made.configure(oidc="oidc.json")
    made.start()
    assert made.api("POST", "groups", {"name": "north"})[0] == 201
    yield made
    made.stop()


class Login:
    """`fota login` as a person runs it."""

    def __init__(self, server: Server, folder: Path, *more: str) -> None:
        self.file = folder / "my.token"
        self.process = subprocess.Popen(
            [*FOTA, "login", "--server", server.operator_url, "--ca", str(server.keys.server_ca), "-o",
             str(self.file), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def page(self) -> str:
        assert self.process.stderr
        line = self.process.stderr.readline()
        asked = re.fullmatch(r"open (\S+) and confirm the code \w{4}-\w{4}\n", line)
        assert asked, line
        return asked[1]

    def end(self, given: str | None = None) -> tuple[int, str, str]:
        out, err = self.process.communicate(given, timeout=HANG_S)
        return self.process.returncode, out, err


def alice(identities: Identities, **claims: Any) -> None:
    told = {"email": "alice@example.com", "email_verified": True, "groups": ["staff", "north"]}
    identities.know("alice", **(told | claims))


def test_person_signs_in_by_any_browser_and_has_the_role_of_a_rule(
    server: Server, identities: Identities, tmp_path: Path
) -> None:
    alice(identities)
    login = Login(server, tmp_path)
    assert "Success" in identities.confirm(login.page(), "alice")
    code, said, err = login.end()
    assert (code, err) == (0, "")
    assert "signed in as alice@example.com (operator, for group north)" in said
    token = login.file.read_text().strip()
    assert token not in said
    assert login.file.stat().st_mode & 0o777 == 0o600
    assert server.api("GET", "groups", token=token)[0] == 200
    assert server.api("POST", "groups", {"name": "south"}, token=token)[1]["error"]["code"] == "scope"
    assert server.api("POST", "devices/0123000000000000ee/retire", {}, token=token)[0] == 403
    row = server.rows(
        "SELECT role, person, groups, expires_at - created_at AS life FROM tokens WHERE login IS NOT NULL"
    )
    assert row == [
        {"role": "operator", "person": "alice@example.com", "groups": '["north"]', "life": 8 * 3600}
    ]
    made = server.rows(
        "SELECT actor, subject FROM audit WHERE action = 'token.create' AND actor LIKE 'alice%'"
    )
    assert [one["actor"] for one in made] == ["alice@example.com"]


@pytest.mark.parametrize(
    ("claims", "code", "says"),
    [
        ({"groups": ["staff"]}, 1, "has no role on this server"),
        ({"email_verified": False}, 1, "does not vouch for this address"),
    ],
)
def test_person_without_a_role_gets_no_token(
    server: Server, identities: Identities, tmp_path: Path, claims: dict[str, Any], code: int, says: str
) -> None:
    alice(identities, **claims)
    before = server.rows("SELECT count(*) AS n FROM tokens")
    login = Login(server, tmp_path)
    identities.confirm(login.page(), "alice")
    ended, _, err = login.end()
    assert (ended, says in err, err.count("\n")) == (code, True, 1)
    assert not login.file.exists()
    assert server.rows("SELECT count(*) AS n FROM tokens") == before


def test_person_who_says_no_on_the_page_gets_none(
    server: Server, identities: Identities, tmp_path: Path
) -> None:
    alice(identities)
    login = Login(server, tmp_path)
    identities.confirm(login.page(), "alice", no=True)
    code, _, err = login.end()
    assert (code, "says no" in err, login.file.exists()) == (1, True, False)


def test_server_without_oidc_says_so(keys: Keys, tmp_path: Path) -> None:
    plain = Server(keys, tmp_path / "data").init().start()
    try:
        code, _, err = Login(plain, tmp_path).end()
        assert (code, "nobody signs in here" in err) == (3, True)
        assert plain.api("POST", "login", {"id_token": "x"}, token="")[0] == 404
    finally:
        plain.stop()


# -- ID tokens of an issuer of our own: what no honest provider makes ----------------------------------------


KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def public(kid: str, key: Any, **more: Any) -> dict[str, Any]:
    kind = (
        jwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else jwt.algorithms.RSAAlgorithm
    )
    return json.loads(kind.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"} | more


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that tells the provider's answers: of its documents alone, no network is asked."""
    documents: dict[str, Any] = {}
    asked: list[str] = []

    def fetch(url: str, _form: Any = None) -> tuple[int, dict[str, Any]]:
        asked.append(url)
        if url not in documents:
            raise oidc.TransportError(f"cannot reach {url}")
        return 200, documents[url]

    monkeypatch.setattr(oidc, "fetch", fetch)

    def tell(keys: list[Any], **about: Any) -> list[str]:
        documents["https://id.example/.well-known/openid-configuration"] = {
            "issuer": "https://id.example", "jwks_uri": "https://id.example/jwks", **about
        }  # fmt: skip
        documents["https://id.example/jwks"] = {"keys": keys}
        return asked

    return tell


SETTINGS = oidc.Settings(
    issuer="https://id.example", client_id="fota", person="sub", hours=8,
    rules=(oidc.Rule(claim="groups", value="ops", role="operator"),),
)  # fmt: skip


def made(key: Any = KEY, algorithm: str = "ES256", kid: str | None = "1", **changes: Any) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": "https://id.example",
        "aud": "fota",
        "sub": "bob",
        "iat": now,
        "exp": now + 600,
    }
    claims |= {"groups": ["ops"]} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else {})


def test_good_id_token_makes_whom_it_names(issuer: Any) -> None:
    issuer([public("1", KEY)])
    who = oidc.Provider(SETTINGS).sign_in(made())
    assert (who.person, who.role, who.groups) == ("bob", "operator", ())
    assert oidc.Provider(SETTINGS).sign_in(made(aud=["fota", "x"], azp="fota")).person == "bob"


HOUR = 3600


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (lambda: made(iss="https://id.example/"), "issuer"),
        (lambda: made(aud="another"), "udience"),
        (lambda: made(aud=["another"]), "udience"),
        (lambda: made(aud=["fota", "another"], azp="another"), "another client"),
        (lambda: made(exp=int(time.time()) - 120), "expired"),
        (lambda: made(iat=int(time.time()) - HOUR, exp=int(time.time()) + HOUR), "older than"),
        (lambda: made(iat=int(time.time()) + HOUR, exp=int(time.time()) + 2 * HOUR), "not yet valid"),
        (lambda: made(nbf=int(time.time()) + HOUR), "not yet valid"),
        (lambda: made(exp=None), "exp"),
        (lambda: made(iat=None), "iat"),
        (lambda: made(sub=None), "sub"),
        (lambda: made(sub="x" * 65), "names nobody"),
        (lambda: made(sub="two\nlines"), "names nobody"),
        (lambda: made(OTHER), "ignature"),
        (lambda: made(OTHER, kid="2"), "no key of this provider"),
        (lambda: made(kid=None), "no key of this provider"),
        (lambda: made(RSA_KEY, "RS256", kid="1"), "not for that algorithm"),
        (lambda: made(RSA_KEY, "RS512", kid="rsa"), "not for that algorithm"),
        (lambda: made(RSA_KEY, "RS256", kid="enc"), "no key of this provider"),
        (lambda: made("0" * 32, "HS256"), "not for that algorithm"),
        (lambda: made(None, "none"), "not for that algorithm"),
        (lambda: "x", "ID token"),
        (lambda: "", "ID token"),
        (lambda: "\u00e4.b.c", "ID token"),
        (lambda: "a" * 20000, "ID token"),
        (lambda: made()[:-4], "ID token"),
    ],
)
def test_id_token_that_is_not_good_makes_nobody(issuer: Any, raw: Callable[[], str], says: str) -> None:
    issuer([public("1", KEY), public("rsa", RSA_KEY, alg="RS256"), public("enc", RSA_KEY, use="enc")])
    with pytest.raises(oidc.NotSignedIn, match=says):
        oidc.Provider(SETTINGS).sign_in(raw())


def test_id_token_in_other_letters_is_the_same_sign_in(issuer: Any) -> None:
    """What is not signed can be altered: padding may be there, and of (r, s) also (r, n - s) is good."""
    issuer([public("1", KEY)])
    provider, raw = oidc.Provider(SETTINGS), made()
    signed, _, signature = raw.rpartition(".")
    number = jwt.utils.base64url_decode(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    mirrored = number[:32] + (order - int.from_bytes(number[32:])).to_bytes(32)
    logins = {provider.sign_in(raw).login}
    for other in (signature + "==", jwt.utils.base64url_encode(mirrored).decode()):
        logins.add(provider.sign_in(f"{signed}.{other}").login)
    assert len(logins) == 1
    assert provider.sign_in(made(sub="carol")).login not in logins


def test_provider_that_hangs_keeps_nobody_but_sign_ins_waiting(keys: Keys, tmp_path: Path) -> None:
    """More sign-ins than the loop has threads, at a provider that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as mute:
        made_here = Server(keys, tmp_path / "data").init()
        settings = {
            "issuer": f"http://127.0.0.1:{mute.getsockname()[1]}",
            "client_id": "fota",
            "rules": RULES,
        }
        (made_here.data / "oidc.json").write_text(json.dumps(settings))
        made_here.configure(oidc="oidc.json")
        made_here.start()
        answers: list[tuple[int, Any]] = []

        def sign_in() -> None:
            with suppress(OSError, http.client.HTTPException):  # the server ends meanwhile
                answers.append(made_here.api("POST", "login", {"id_token": made()}, token=""))

        people = [threading.Thread(target=sign_in) for _ in range(LOGINS_AT_ONCE + 40)]
        for one in people:
            one.start()
        status, told = until(lambda: answers and answers[0])
        assert (status, told["error"]["code"]) == (503, "provider")
        assert f"{LOGINS_AT_ONCE} sign-ins wait" in told["error"]["message"]
        assert made_here.api("GET", "health/ready")[0] == 200
        assert made_here.stop()[0] == 0
        for one in people:
            one.join()


def test_no_rule_no_role(issuer: Any) -> None:
    issuer([public("1", KEY)])
    for groups in ([], ["OPS"], "other", [["ops"]], {"ops": 1}, None, 7):
        with pytest.raises(oidc.NoRole):
            oidc.Provider(SETTINGS).sign_in(made(groups=groups))


def test_made_up_key_ids_do_not_have_the_provider_asked_each_time(issuer: Any) -> None:
    asked = issuer([public("1", KEY)])
    provider = oidc.Provider(SETTINGS)
    provider.sign_in(made())
    for number in range(20):
        with pytest.raises(oidc.NotSignedIn):
            provider.sign_in(made(OTHER, kid=f"made-up-{number}"))
    assert len(asked) == 2


def test_provider_that_is_away_or_another_one_is_told_and_keys_at_hand_go_on(
    issuer: Any, monkeypatch: Any
) -> None:
    issuer([public("1", KEY)], issuer="https://evil.example")
    provider = oidc.Provider(SETTINGS)
    with pytest.raises(oidc.ProviderAway, match="calls itself"):
        provider.sign_in(made())
    issuer([public("1", KEY)])
    assert provider.sign_in(made()).person == "bob"
    issuer([], issuer="https://evil.example")
    monkeypatch.setattr(oidc, "KEYS_FOR_S", -1)  # they are old
    assert provider.sign_in(made()).person == "bob"


def test_id_token_is_good_once(server: Server, identities: Identities, tmp_path: Path) -> None:
    """As a CI hands it over: in a file; the provider's own token, seen on its way."""
    subject = "repo:acme/fw:ref:refs/heads/main"
    identities.know(subject, email="ci@example.com", email_verified=True)
    device_code = _device_code(identities)
    identities.confirm(device_code["verification_uri_complete"], subject)
    raw = _redeem(identities, device_code["device_code"])
    answers = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        again = Login(server, folder, "--id-token-file", "-")
        answers.append((*again.end(raw + "\n"), again.file.exists()))
    assert [one[0] for one in answers] == [0, 1]
    assert "signed in as ci@example.com (publisher)" in answers[0][1]
    assert "has been used" in answers[1][2]
    assert [one[3] for one in answers] == [True, False]
    of_another = _device_code(identities, "another")
    identities.confirm(of_another["verification_uri_complete"], subject)
    foreign = _redeem(identities, of_another["device_code"], "another")
    status, answer = server.api("POST", "login", {"id_token": foreign}, token="")
    assert (status, answer["error"]["code"]) == (401, "id-token")


def _post(url: str, **form: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, urlencode(form).encode(), timeout=HANG_S) as answer:
        return dict(json.load(answer))


def _device_code(identities: Identities, client: str = "fota") -> dict[str, Any]:
    return _post(f"{identities.issuer}/device/auth", client_id=client, scope="openid email")


def _redeem(identities: Identities, code: str, client: str = "fota") -> str:
    kind = "urn:ietf:params:oauth:grant-type:device_code"
    answer = _post(f"{identities.issuer}/token", grant_type=kind, device_code=code, client_id=client)
    return str(answer["id_token"])


# -- oidc.json ----------------------------------------------------------------------------------------------


GOOD = {"issuer": "https://id.example.com", "client_id": "fota", "rules": RULES}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"issuer": "http://id.example.com"}, "https://HOST"),
        ({"issuer": "https://me@id.example.com"}, "https://HOST"),
        ({"issuer": 7}, "https://HOST"),
        ({"client_id": ""}, "texts"),
        ({"person": 3}, "texts"),
        ({"hours": 0}, "1 to 24"),
        ({"hours": True}, "1 to 24"),
        ({"rules": []}, "nobody could sign in"),
        ({"rules": [{"claim": "a", "value": "b"}]}, "rule 1 has"),
        ({"rules": [RULES[0], {**RULES[0], "role": "root"}]}, "rule 2: role is one of"),
        ({"rules": [{**RULES[0], "value": ["x"]}]}, "texts"),
        ({"rules": [{**RULES[0], "groups": []}]}, "names none"),
        ({"secret": "x"}, "no more"),
    ],
)
def test_settings_that_say_something_else_are_refused_by_name(
    tmp_path: Path, changes: Any, says: str
) -> None:
    (tmp_path / "oidc.json").write_text(json.dumps(GOOD | changes))
    with pytest.raises(InputError, match=says):
        oidc.read_settings(tmp_path / "oidc.json")


def test_settings_of_the_page_are_good(tmp_path: Path) -> None:
    text = re.search(r"```json\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
    assert text
    (tmp_path / "oidc.json").write_text(text[1])
    assert len(oidc.read_settings(tmp_path / "oidc.json").rules) == 2


def test_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "oidc.json").write_text(json.dumps(GOOD))
    settings = oidc.read_settings(tmp_path / "oidc.json")
    assert (settings.person, settings.hours, len(settings.rules)) == ("sub", 8, 3)
    (tmp_path / "oidc.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        oidc.read_settings(tmp_path / "oidc.json")
