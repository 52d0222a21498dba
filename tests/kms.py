"""AWS KMS for tests: moto's server as a process of its own, and a front before it that fails on command.

moto hashes what it is told to sign once more even if it is told that this is a digest ("not yet implemented",
it says); AWS does not. Here it does as AWS does.
"""

import http.client
import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lifeline import HANG_S

SECRET = "a-secret-that-nobody-may-ever-read"
_PROGRAM = """
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from moto.kms import responses, utils as kms
from moto.server import main

told, sign, before = [], kms.ECDSAPrivateKey.sign, responses.KmsResponse.sign
def sign_as_told(self, message, signing_algorithm):
    if told != ["DIGEST"]:
        return sign(self, message, signing_algorithm)
    assert len(message) == 32 and signing_algorithm == "ECDSA_SHA_256"
    return self.private_key.sign(message, ec.ECDSA(utils.Prehashed(SHA256())))
def note(self):
    told[:] = [self._get_param("MessageType")]
    return before(self)
kms.ECDSAPrivateKey.sign, responses.KmsResponse.sign = sign_as_told, note
main()
"""


class Kms:
    """``mode`` is what the front does: "" passes on; (status, code) is answered; "gone" hangs up; "stuck"
    waits for ``go_on``; "other" alters a signature. ``asked``: what was asked for, in order.
    """

    def __init__(self, port):
        self.port, self.front_port, self.mode, self.asked, self.go_on = port, 0, "", [], threading.Event()

    @property
    def environment(self):
        return {
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{self.front_port}",
            "AWS_ACCESS_KEY_ID": "AKIAFOTATESTS",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class _Front(BaseHTTPRequestHandler):
    kms: Kms

    def do_POST(self):
        kms, body = self.kms, self.rfile.read(int(self.headers["content-length"]))
        target = self.headers["x-amz-target"].rpartition(".")[2]
        kms.asked.append(target)
        mode = kms.mode.get(target, "") if isinstance(kms.mode, dict) else kms.mode
        if mode == "stuck":
            kms.go_on.wait()
        if mode in ("stuck", "gone"):
            return None
        if isinstance(mode, tuple):
            status, code = mode
            return self._say(status, json.dumps({"__type": code, "message": f"{code} it is"}).encode())
        connection = http.client.HTTPConnection("127.0.0.1", kms.port, timeout=HANG_S)
        try:
            connection.request("POST", self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            status, answer = response.status, response.read()
        finally:
            connection.close()
        if mode == "other":
            answer = answer.replace(b"A", b"B")
        return self._say(status, answer)

    def _say(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nobody reads it."""


@contextmanager
def served():
    """Give a KMS behind a front."""
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, "-H", "127.0.0.1", "-p", "0"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    found = None
    while not found:
        line = process.stderr.readline()
        assert line, "moto's server ended"
        found = re.search(r"Running on http://127\.0\.0\.1:(\d+)", line)
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    kms = Kms(int(found[1]))
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"kms": kms})) as front:
        front.daemon_threads = True
        front.handle_error = lambda *_: None  # a client that hung up
        kms.front_port = front.server_port
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield kms
        finally:
            kms.go_on.set()
            front.shutdown()
            thread.join()
            process.terminate()
            process.wait()
            drain.join()
            process.stderr.close()
