"""Mailbox hosts as processes, and two people who use them while they are never on together. Standard library only."""
import json, os, signal, subprocess, time, urllib.request

from millpond_node import BINARY, START_S, STOP_S, Failed, free_port, until

QUIET_S = 5.0  # how long nothing may be under way before a node counts as settled: a contact is tried directly for four seconds first


class Relay:
    """One `millpond relay` with a folder and a port of its own; both stay the same over restarts."""

    def __init__(self, label, folder, *arguments, address="127.0.0.1"):
        """Without arguments of its own it stays off Tor: most suites have no Tor network."""
        self.arguments, self.wrapper = arguments or ("--tor", "off"), []
        self.label, self.data, self.port, self.address = label, os.path.join(folder, label), free_port(), address
        self.log, self.process, self.url = os.path.join(folder, label + ".log"), None, None

    def start(self):
        arguments = [*self.wrapper, BINARY, "relay", "--data-dir", self.data, "--port", str(self.port), "--addresses", self.address, "--log", "debug", *self.arguments]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(f"{self.label} is up", self._is_up, START_S, 0.05)
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.label} ended with {self.process.returncode}; its log: {self.log}")
        try:
            self.url = self.cli("link").strip().splitlines()[-1]
        except Failed:
            return False
        return self.url.startswith("millpond-host:")

    def cli(self, *arguments):
        done = subprocess.run([BINARY, "relay", "--data-dir", self.data, *arguments], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"{self.label}: relay {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def token(self):
        return self.cli("token").split()[-1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=STOP_S) != 0:
            raise Failed(f"{self.label} ended with {self.process.returncode} on SIGTERM; its log: {self.log}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wipe(self):
        """The disk of a host that is down is gone, but for its keys: it comes back empty."""
        for name in os.listdir(self.data):
            if name.startswith("relay.redb"):
                os.remove(os.path.join(self.data, name))


def mailboxes(node, relays):
    for relay in relays:
        node.cli("mailbox", "add", relay.url, relay.token())


def status(node):
    return ask(node, "GET", "status")


def ask(node, method, path):
    """The node's own API."""
    with open(os.path.join(node.data, "admin_token")) as file:
        token = file.read().strip()
    headers = {"authorization": "Bearer " + token}
    request = urllib.request.Request(node.url + "/_millpond/v1/" + path, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def settled(node, limit_s=60.0):
    """Waits until everything that the node has for others lies at their hosts, and nothing has moved for a while."""
    def quiet():
        contacts = status(node)["contacts"]
        mails = [(contact, contact.get("mail") or {}) for contact in contacts]
        under_way = any(mail.get("busy") or contact["waiting"] and not mail.get("unacknowledged") for contact, mail in mails)
        return not under_way, json.dumps(contacts)
    last, since = None, time.monotonic()
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        calm, now = quiet()
        if not calm or now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return
        time.sleep(0.1)
    raise Failed(f"{node.label}: mail is still under way after {limit_s:.0f} s")


class Turns:
    """Never more than one of the nodes runs."""

    def __init__(self, nodes, up=None):
        """`up` is the one that runs already."""
        self.nodes, self.up = nodes, up

    def wake(self, node):
        if self.up is node:
            return
        self.sleep()
        if any(other.process and other.process.poll() is None for other in self.nodes):
            raise Failed("two nodes would run at the same time")
        node.start()
        self.up = node

    def sleep(self):
        if self.up:
            settled(self.up)
            self.up.stop()
            self.up = None
