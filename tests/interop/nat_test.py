#!/usr/bin/env python3
"""Two nodes, each behind a NAT of its own, and a mailbox host that also relays, in network namespaces of this machine. The nodes link through the
relay, punch a hole, and go on talking when the relay is killed. Needs root, `ip` and `iptables`; the binary is $MILLPOND."""
import json, os, re, subprocess, sys, tempfile, uuid

from millpond_node import BINARY, CLIENT, STOP_S, Failed, Node, Run, link, quote, until

TAG = "mp" + uuid.uuid4().hex[:6]
PASSWORD = "nat-" + uuid.uuid4().hex


def sh(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def inside(space, *command):
    return ["ip", "netns", "exec", space, *command]


class Net:
    """net: a bridge that is the Internet, 203.0.113.0/24; relay .1; a NAT at .2 and .3, behind each one node in 10.N.0.0/24."""

    def __init__(self):
        self.spaces = []

    def space(self, name):
        name = f"{TAG}-{name}"
        sh("ip", "netns", "add", name)
        self.spaces.append(name)
        sh(*inside(name, "ip", "link", "set", "lo", "up"))
        return name

    def wire(self, one, name_one, other, name_other):
        short = uuid.uuid4().hex[:8]
        sh("ip", "link", "add", "a" + short, "type", "veth", "peer", "name", "b" + short)
        for end, space, name in (("a" + short, one, name_one), ("b" + short, other, name_other)):
            sh("ip", "link", "set", end, "netns", space)
            sh(*inside(space, "ip", "link", "set", end, "name", name))
            sh(*inside(space, "ip", "link", "set", name, "up"))

    def public(self, space, number):
        port = f"port{number}"
        self.wire(self.net, port, space, "pub")
        sh(*inside(self.net, "ip", "link", "set", port, "master", "br0"))
        sh(*inside(space, "ip", "addr", "add", f"203.0.113.{number}/24", "dev", "pub"))

    def behind_nat(self, number):
        nat, node = self.space(f"nat{number}"), self.space(f"node{number}")
        self.public(nat, number)
        self.wire(nat, "priv", node, "eth")
        sh(*inside(nat, "ip", "addr", "add", f"10.{number}.0.1/24", "dev", "priv"))
        sh(*inside(node, "ip", "addr", "add", f"10.{number}.0.2/24", "dev", "eth"))
        sh(*inside(node, "ip", "route", "add", "default", "via", f"10.{number}.0.1"))
        sh(*inside(nat, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        for rule in (
            "-t nat -A POSTROUTING -o pub -j MASQUERADE",
            "-P FORWARD DROP", "-P INPUT DROP",
            "-A FORWARD -i priv -o pub -j ACCEPT",
            "-A FORWARD -i pub -o priv -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        ):
            sh(*inside(nat, "iptables", *rule.split()))
        return node

    def __enter__(self):
        self.net = self.space("net")
        sh(*inside(self.net, "ip", "link", "add", "name", "br0", "type", "bridge"))
        sh(*inside(self.net, "ip", "link", "set", "br0", "up"))
        self.relay = self.space("relay")
        self.public(self.relay, 1)
        self.nodes = [self.behind_nat(2), self.behind_nat(3)]
        return self

    def __exit__(self, *_):
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


class Hidden(Node):
    """A node in a network namespace; clients and commands stand beside it."""

    def __init__(self, label, folder, space, relay):
        super().__init__(label, folder)
        self.space, self.relay = space, relay

    def start(self):
        command = inside(self.space, BINARY, "run", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}",
                         "--registration", "open", "--rate-limits", "false", "--direct-relays", self.relay)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(f"{self.label} answers", self._answers, 30, 0.1)
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.label} ended with {self.process.returncode}; its log: {self.log}")
        try:
            return self.call("GET", "/_matrix/client/versions")[0] == 200
        except Failed:
            return False

    def cli(self, *arguments, limit_s=60):
        command = inside(self.space, BINARY, *arguments, "--data-dir", self.data)
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        if done.returncode != 0:
            raise Failed(f"{self.label}: millpond {' '.join(arguments)[:60]}: {done.stdout}{done.stderr}")
        return done.stdout

    def call(self, method, path, body=None, token=None, limit_s=60):
        command = inside(self.space, "curl", "-sS", "-m", str(limit_s), "-X", method, "-w", "\n%{http_code}",
                         "-H", "content-type: application/json", self.url + path)
        command += ["-H", "authorization: Bearer " + token] if token else []
        command += ["-d", json.dumps(body)] if body is not None else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{self.label}: {method} {path}: {done.stderr.strip()}")
        text, status = done.stdout.rsplit("\n", 1)
        return int(status), json.loads(text) if text else {}


def start_relay(net, folder):
    log = open(os.path.join(folder, "relay.log"), "ab")
    command = inside(net.relay, BINARY, "relay", "--data-dir", os.path.join(folder, "relay"), "--tor", "off")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        found = re.match(r"Circuit relay: (/ip4/203\S+)", line)
        if found:
            return process, found[1]
    raise Failed("the relay printed no address to relay through; its log: " + log.name)


def reads(node, token, room, text):
    filter_ = quote(json.dumps({"types": ["m.room.message"]}))
    answer = node.must("GET", f"{CLIENT}/rooms/{quote(room)}/messages?dir=b&limit=20&filter={filter_}", token=token)
    return any(event["content"].get("body") == text for event in answer["chunk"])


def say(node, token, room, text):
    body = {"msgtype": "m.text", "body": text}
    node.must("PUT", f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{uuid.uuid4().hex}", body, token)


def ok(text):
    print("ok", text, flush=True)


def main():
    with Net() as net, Run() as run:
        relay, address = start_relay(net, run.folder)
        try:
            alice, bob = (Hidden(label, run.folder, space, address) for label, space in zip(("alice", "bob"), net.nodes))
            run.nodes += [alice, bob]
            alice.start(), bob.start()
            (_, a), (bob_id, b) = alice.register("alice", PASSWORD), bob.register("bob", PASSWORD)
            link(alice, bob)
            ok("linked through the relay")
            room = alice.must("POST", CLIENT + "/createRoom", {"invite": [bob_id]}, a)["room_id"]
            until("bob can join", lambda: bob.call("POST", f"{CLIENT}/join/{quote(room)}", {}, b)[0] == 200, 90, 0.5)
            say(alice, a, room, "with the relay")
            until("bob reads", lambda: reads(bob, b, room, "with the relay"), 60, 0.3)
            ok("a room over the link")
            relay.kill()
            relay.wait()
            for here, token, there, other, text in (
                (alice, a, bob, b, "from alice, without the relay"), (bob, b, alice, a, "from bob, without the relay")
            ):
                say(here, token, room, text)
                until(f"{there.label} reads", lambda: reads(there, other, room, text), 60, 0.3)
            ok("a hole was punched: messages both ways after the relay is gone")
            for node in (alice, bob):
                node.stop()
        finally:
            relay.kill()
    print("ALL OK nat")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("FAIL nat: this suite makes network namespaces and must run as root")
    try:
        main()
    except Failed as failure:
        print("FAIL", failure)
        sys.exit(1)
