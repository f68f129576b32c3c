#!/usr/bin/env python3
"""E-mail addresses through Sydent, the reference identity server, unmodified, with a mail server that keeps what it is given.

Alice adds her address, is found by nobody, logs in with it, and forgets her password; then she publishes it, and Bob's invite by the
address reaches her. Another address is invited before anybody has it. Environment: MILLPOND (the binary), SYDENT_PYTHON (a Python
that has matrix-sydent).
"""

import html
import json
import os
import re
import secrets
import shutil
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

MAILS = []


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs that wants to get rid of a message (RFC 5321)."""

    def handle(self):
        self.wfile.write(b"220 mail\r\n")
        to = None
        while line := self.rfile.readline():
            word = line.strip().split(b" ")[0].upper()
            if line.upper().startswith(b"RCPT TO:"):
                to = line.decode().split("<")[1].split(">")[0]
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                body = b""
                while not body.endswith(b"\r\n.\r\n"):
                    body += self.rfile.readline()
                MAILS.append((to, body.decode()))
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def call(method, url, body=None, token=None):
    """Gives the status and the JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def until(what, check):
    for _ in range(300):
        try:
            if found := check():
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within 30 s")


def start_sydent(folder, mail_port):
    port = free_port()
    templates = os.path.join(folder, "res", "matrix-org")
    os.makedirs(templates)
    for name in ["verification_template.eml.j2", "invite_template.eml.j2"]:
        with open(os.path.join(templates, name), "w") as f:
            f.write("Subject: about your address\nTo: {{ to }}\n\nlink: {{ link }} token: {{ token }}\n")
    with open(os.path.join(templates, "verify_response_template.html"), "w") as f:
        f.write("%(message)s")
    settings = f"""[general]
server.name = 127.0.0.1:{port}
templates.path = {os.path.join(folder, "res")}
pidfile.path = {os.path.join(folder, "pid")}
terms.path =
delete_tokens_on_bind = false
[db]
db.file = {os.path.join(folder, "sydent.db")}
[http]
clientapi.http.bind_address = 127.0.0.1
clientapi.http.port = {port}
client_http_base = http://127.0.0.1:{port}
[email]
email.from = sydent@localhost.localdomain
email.smtphost = 127.0.0.1
email.smtpport = {mail_port}
email.hostname = localhost
"""
    config = os.path.join(folder, "sydent.conf")
    with open(config, "w") as f:
        f.write(settings)
    log = open(os.path.join(folder, "sydent.log"), "w")
    python = os.environ.get("SYDENT_PYTHON", sys.executable)
    process = subprocess.Popen(
        [python, "-m", "sydent.sydent"], env={**os.environ, "SYDENT_CONF": config}, cwd=folder, stdout=log, stderr=log
    )
    base = f"http://127.0.0.1:{port}"
    until("sydent starts", lambda: call("GET", f"{base}/_matrix/identity/v2")[0] == 200)
    return process, base


def token_of(folder, user):
    """A token of the identity server, as it gives one to who shows an OpenID token that it can check: over the federation."""
    token = secrets.token_hex(16)
    with sqlite3.connect(os.path.join(folder, "sydent.db"), timeout=30) as db:
        db.execute("insert into accounts (user_id, created_ts, consent_version) values (?, ?, null)", (user, 1))
        db.execute("insert into tokens (token, user_id) values (?, ?)", (token, user))
    db.close()
    return token


class Node:
    def __init__(self, folder, identity, owners_token):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}/_matrix/client/v3"
        self.log = open(os.path.join(folder, "node.log"), "w")
        self.process = subprocess.Popen(
            [os.environ["MILLPOND"], "run", "--data-dir", os.path.join(folder, "node"), "--listen", f"127.0.0.1:{port}"]
            + ["--registration", "open", "--identity-server", identity, "--identity-token", owners_token]
            + ["--allow-networks", "127.0.0.0/8"],
            stdout=self.log,
            stderr=self.log,
        )
        until("the node starts", lambda: call("GET", f"http://127.0.0.1:{port}/_matrix/client/versions")[0] == 200)

    def __call__(self, method, path, body=None, token=None, expect=200):
        status, answer = call(method, self.base + path, body, token)
        assert status == expect, f"{method} {path}: {status} {answer}"
        return answer

    def register(self, name):
        body = {"username": name, "password": f"secret of {name}", "auth": {"type": "m.login.dummy"}}
        return self("POST", "/register", body)


def follow(address):
    """Opens the link in the newest message to an address, as its owner does."""
    until(f"a message for {address}", lambda: [mail for to, mail in MAILS if to == address])
    mail = [mail for to, mail in MAILS if to == address][-1]
    link = html.unescape(re.search(r"link: (\S+)", mail).group(1))
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert answer.status == 200


def run(folder):
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail)
    threading.Thread(target=mail.serve_forever, daemon=True).start()
    sydent, base = start_sydent(folder, mail.server_address[1])
    processes = [sydent]
    try:
        host = base.split("://")[1]
        node = Node(folder, base, token_of(folder, "@owner:node"))
        processes.append(node.process)
        alice, bob = node.register("alice"), node.register("bob")
        token, user = alice["access_token"], alice["user_id"]
        address = "alice@example.com"

        print("an address is added after its owner followed the link")
        ask = {"client_secret": "first", "email": address, "send_attempt": 1}
        sid = node("POST", "/account/3pid/email/requestToken", ask)["sid"]
        password = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": "secret of alice"}
        add = {"sid": sid, "client_secret": "first", "auth": password}
        early = node("POST", "/account/3pid/add", add, token, expect=400)
        assert early["errcode"] == "M_THREEPID_AUTH_FAILED", early
        follow(address)
        node("POST", "/account/3pid/add", add, token)
        kept = node("GET", "/account/3pid", token=token)["threepids"]
        assert [it["address"] for it in kept] == [address], kept

        print("she logs in with it, and comes back by it")
        identifier = {"type": "m.id.thirdparty", "medium": "email", "address": address}
        node("POST", "/login", {"type": "m.login.password", "identifier": identifier, "password": "secret of alice"})
        ask = {"client_secret": "second", "email": address, "send_attempt": 1}
        sid = node("POST", "/account/password/email/requestToken", ask)["sid"]
        follow(address)
        change = {"new_password": "better", "logout_devices": False}
        session = node("POST", "/account/password", change, expect=401)["session"]
        shown = {"type": "m.login.email.identity", "session": session, "threepid_creds": {"sid": sid, "client_secret": "second"}}
        node("POST", "/account/password", {**change, "auth": shown})
        node("POST", "/login", {"type": "m.login.password", "identifier": identifier, "password": "better"})

        print("she is not found by it before she publishes it, and then she is")
        bobs = token_of(folder, bob["user_id"])
        invite = {"id_server": host, "id_access_token": bobs, "medium": "email", "address": address}
        # An identity server is told of no overlay room; of version 11 is a room that stays on this node.
        overlay = node("POST", "/createRoom", {}, bob["access_token"])["room_id"]
        refused = node("POST", f"/rooms/{urllib.parse.quote(overlay)}/invite", invite, bob["access_token"], expect=403)
        assert refused["errcode"] == "M_THREEPID_DENIED", refused
        room = node("POST", "/createRoom", {"room_version": "11"}, bob["access_token"])["room_id"]
        path = f"/rooms/{urllib.parse.quote(room)}"
        hers = token_of(folder, user)
        ask = {"client_secret": "third", "email": address, "send_attempt": 1, "id_server": host, "id_access_token": hers}
        # The address is hers already, so the identity server itself is asked.
        sent = call("POST", f"{base}/_matrix/identity/v2/validate/email/requestToken", ask, hers)
        assert sent[0] == 200, sent
        follow(address)
        bind = {"sid": sent[1]["sid"], "client_secret": "third", "id_server": host, "id_access_token": hers}
        node("POST", "/account/3pid/bind", bind, token)
        node("POST", f"{path}/invite", invite, bob["access_token"])
        node("POST", f"{path}/join", {}, token)

        print("who has no account gets a message, and his invite stands in the room")
        stranger = {**invite, "address": "stranger@example.com"}
        node("POST", f"{path}/invite", stranger, bob["access_token"])
        until("a message for the stranger", lambda: [to for to, _ in MAILS if to == "stranger@example.com"])
        state = node("GET", f"{path}/state", token=bob["access_token"])
        assert [it for it in state if it["type"] == "m.room.third_party_invite" and it["content"]["public_keys"]], state

        print("it does not know the key of a node without a name in the DNS, and says so; the account loses the address all the same")
        gone = node("POST", "/account/3pid/delete", {"medium": "email", "address": address}, token)
        assert gone["id_server_unbind_result"] == "no-support", gone
        assert node("GET", "/account/3pid", token=token)["threepids"] == []
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
        mail.shutdown()


if __name__ == "__main__":
    place = tempfile.mkdtemp(prefix="millpond-sydent-")
    run(place)
    shutil.rmtree(place)
