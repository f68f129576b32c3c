#!/usr/bin/env python3
"""Figures of Tor, on the private network of tor_net.py: bootstrap, first mailbox, time to be reachable after a start, deposits, memory at rest, bytes a
day in paced mode, size of the binary. By hand, best with a release build and a quiet machine:

    MILLPOND=target/release/millpond python3 tests/interop/tor_figures.py [MINUTES]

MINUTES (default 10) is how long the paced node is watched; 0 leaves that out. The relays vote every ten minutes here, so that the network's directory,
which on the public network changes once an hour, does not count for more than it should. Needs Debian's tor, and ss for the bytes."""
import os, re, shutil, statistics, subprocess, sys, tempfile, time, uuid

os.environ.setdefault("TORNET_VOTE_S", "600")
from millpond_node import BINARY, CLIENT, Failed, Run, link, linked, quote, until
from relay_host import Relay, mailboxes, settled, status
from tor_net import TorNet, memory_mb

PASSWORD = "figures-" + uuid.uuid4().hex
MESSAGES = 60
REST_S = 45
DAY_S = 86_400


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def say(what, value):
    print(f"{what}: {value}", flush=True)


def up(node):
    begin = time.monotonic()
    until("Tor is up", lambda: (status(node)["tor"] or {})["state"] == "up", 60, 0.02)
    return time.monotonic() - begin


def memory(node):
    whole, own = memory_mb(node.process)
    return f"{whole:.0f} MB resident, of which {own:.0f} MB its own and the rest pages of the binary"


def people(run, relay):
    """Alice and Bob with a room, each at a node with a mailbox at the onion host."""
    one, two = run.node("one", "--log", "info,millpond_overlay::hosts=debug"), run.node("two")
    _, alice = one.register("alice", PASSWORD)
    bob_id, bob = two.register("bob", PASSWORD)
    say("memory before Tor", memory(one))
    begin = time.monotonic()
    until("the first mailbox", lambda: added(one, relay), 60, 0.2)
    say("empty cache to the first mailbox at an onion service", f"{time.monotonic() - begin:.2f} s")
    mailboxes(two, [relay])
    link(one, two)
    for here, there in ((one, two), (two, one)):
        until("linked", lambda: linked(here, there) and "established" in here.cli("contact", "list"), 90, 0.3)
    room = one.must("POST", CLIENT + "/createRoom", {"invite": [bob_id]}, alice)["room_id"]
    until("joined", lambda: two.call("POST", f"{CLIENT}/join/{quote(room)}", {}, bob)[0] == 200, 60, 0.3)
    return one, two, alice, bob, room


def deposits(one, two, alice, bob, room):
    say("first message", f"{send(one, two, alice, bob, room, 'first'):.2f} s")
    one.stop()
    begin = time.monotonic()
    one.start()
    say("start with a warm cache, until Tor is up", f"{up(one):.2f} s")
    until("its mailbox is read", lambda: any(m["announced"] for m in status(one)["mailboxes"]), 60, 0.02)
    say("start with a warm cache, until the mailbox is listened to", f"{time.monotonic() - begin:.2f} s")
    say("first message after a start, read at the other end", f"{send(one, two, alice, bob, room, 'after the start'):.2f} s")
    times = [send(one, two, alice, bob, room, f"message {n}") for n in range(MESSAGES)]
    say("a message by mailbox on open circuits, read at the other end", f"p50 {statistics.median(times) * 1000:.0f} ms, p95 {percentile(times, 0.95) * 1000:.0f} ms")
    for what, fresh in (("on an open circuit", "false"), ("with the circuit that was made for it", "true")):
        times = stored(one, fresh)
        say(f"a deposit alone {what}, until STORED is back ({len(times)})", f"p50 {statistics.median(times):.0f} ms, p95 {percentile(times, 0.95):.0f} ms")


def stored(node, fresh):
    """How long each deposit took, in ms, out of the log: on a connection that was `fresh`, or was not."""
    with open(node.log, encoding="utf-8") as log:
        return [int(each[1]) / 1000 for each in re.finditer(rf"on a host's disk micros=(\d+) fresh={fresh}", log.read())]


def reachable(run):
    """An own onion service: from the start of a node that had one before until a contact's message is there."""
    three, four = run.node("three", "--tor-onion", "true"), run.node("four", "--tor-onion", "true")
    _, carol = three.register("carol", PASSWORD)
    dave_id, dave = four.register("dave", PASSWORD)
    for node in (three, four):
        up(node)
    link(three, four)
    room = three.must("POST", CLIENT + "/createRoom", {"invite": [dave_id]}, carol)["room_id"]
    until("joined", lambda: four.call("POST", f"{CLIENT}/join/{quote(room)}", {}, dave)[0] == 200, 60, 0.3)
    times = [send(three, four, carol, dave, room, f"directly {n}") for n in range(MESSAGES)]
    say("a message between onion services", f"p50 {statistics.median(times) * 1000:.0f} ms, p95 {percentile(times, 0.95) * 1000:.0f} ms")
    waits = []
    for n in range(3):
        four.stop()
        three.must("PUT", message(room), {"msgtype": "m.text", "body": f"while it is off {n}"}, carol)
        begin = time.monotonic()
        four.start()
        until("reached", lambda: seen(four, dave, room, f"while it is off {n}"), 90, 0.02)
        waits.append(time.monotonic() - begin)
    say("start of a node with an onion service, until a waiting message is there", " ".join(f"{wait:.2f} s" for wait in waits))
    for node in (three, four):
        node.stop()


def paced(run, relay, minutes):
    """What a node in paced mode with nothing to say sends and receives, everything included."""
    node = run.node("paced", "--mode", "paced", "--tor", "only")
    node.register("eve", PASSWORD)
    until("a mailbox", lambda: added(node, relay), 60, 0.5)
    time.sleep(30)
    counted, begin, end = Bytes(node.process), time.monotonic(), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        counted.look()
        time.sleep(1)
    seconds = time.monotonic() - begin
    out, back = counted.since_begin()
    say(f"paced mode, at rest, over {minutes} minutes", f"{out / 1000:.0f} kB sent, {back / 1000:.0f} kB received")
    say("the same for a day", f"{out / seconds * DAY_S / 1e6:.1f} MB sent, {back / seconds * DAY_S / 1e6:.1f} MB received")
    say("memory of the paced node", memory(node))
    node.stop()


class Bytes:
    """What a process's TCP connections to the Tor network carried, also those that closed meanwhile."""

    def __init__(self, process):
        self.pid, self.last = process.pid, {}
        self.look()
        self.before = dict(self.last)

    def look(self):
        text = subprocess.run(["ss", "-H", "-t", "-i", "-n", "-p", "-O"], capture_output=True, text=True, check=True).stdout
        for line in text.splitlines():
            if f"pid={self.pid}," not in line or ":15000" not in line:
                continue
            ends = tuple(line.split()[3:5])
            count = lambda word: int((re.search(word + r":(\d+)", line) or [0, "0"])[1])
            self.last[ends] = (count("bytes_sent"), count("bytes_received"))

    def since_begin(self):
        return tuple(sum(each[n] for each in self.last.values()) - sum(each[n] for each in self.before.values()) for n in (0, 1))


def size():
    say("binary", f"{os.path.getsize(BINARY) / 1e6:.1f} MB")
    if shutil.which("strip"):
        with tempfile.TemporaryDirectory() as folder:
            stripped = os.path.join(folder, "millpond")
            subprocess.run(["strip", "-o", stripped, BINARY], check=True)
            say("binary, stripped", f"{os.path.getsize(stripped) / 1e6:.1f} MB")


def main(minutes):
    size()
    with Run() as run:
        net = TorNet(run.folder)
        try:
            net.start()
            relay = Relay("relay", run.folder, "--tor", "only").start()
            run.nodes.append(relay)
            one, two, *rest = people(run, relay)
            deposits(one, two, *rest)
            settled(one)
            time.sleep(REST_S)
            for each in (one, two, relay):
                say(f"memory at rest, {each.label}", memory(each))
            one.stop()
            two.stop()
            reachable(run)
            if minutes:
                paced(run, relay, minutes)
        finally:
            run.end()
            net.end()


def added(node, relay):
    try:
        mailboxes(node, [relay])
        return True
    except Failed:
        return False


def message(room):
    return f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{uuid.uuid4().hex}"


def seen(node, token, room, body):
    answer = node.must("GET", f"{CLIENT}/rooms/{quote(room)}/messages?dir=b&limit=5", token=token)
    return any(event["content"].get("body") == body for event in answer["chunk"])


def send(one, two, alice, bob, room, body):
    begin = time.monotonic()
    one.must("PUT", message(room), {"msgtype": "m.text", "body": body}, alice)
    until(body, lambda: seen(two, bob, room, body), 90, 0.02)
    return time.monotonic() - begin


main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
