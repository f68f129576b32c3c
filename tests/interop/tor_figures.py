#!/usr/bin/env python3
"""How fast it is over Tor, on the private network of tor_net.py: bootstrap, first mailbox, messages by mailbox on open circuits, memory at rest. By hand."""
import re, statistics, time, uuid

from millpond_node import CLIENT, Failed, Run, linked, quote, until
from relay_host import Relay, mailboxes, settled, status
from tor_net import TorNet, rss_mb

PASSWORD = "figures-" + uuid.uuid4().hex
MESSAGES = 60
REST_S = 45


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def up(node, what):
    begin = time.monotonic()
    until("Tor is up", lambda: (status(node)["tor"] or {})["state"] == "up", 60, 0.02)
    print(f"{what}: {time.monotonic() - begin:.2f} s", flush=True)


def seen(node, token, room, body):
    answer = node.must("GET", f"{CLIENT}/rooms/{quote(room)}/messages?dir=b&limit=5", token=token)
    return any(event["content"].get("body") == body for event in answer["chunk"])


def main():
    with Run() as run:
        net = TorNet(run.folder)
        try:
            net.start()
            relay = Relay("relay", run.folder, "--tor", "only").start()
            run.nodes.append(relay)
            one, two = run.node("one"), run.node("two")
            _, alice = one.register("alice", PASSWORD)
            bob_id, bob = two.register("bob", PASSWORD)
            print(f"memory before Tor: {rss_mb(one.process):.0f} MB", flush=True)
            begin = time.monotonic()
            until("the first mailbox", lambda: added(one, relay), 60, 0.2)
            print(f"empty cache to the first mailbox at an onion service: {time.monotonic() - begin:.2f} s", flush=True)
            mailboxes(two, [relay])
            shown = one.cli("contact")
            two.cli("contact", "add", next(w for w in re.findall(r"\S+", shown) if re.fullmatch(r"[A-Za-z0-9_:/.#?=+-]{80,}", w)))
            until("answered", lambda: two.name in one.cli("contact", "list"), 90, 0.3)
            one.cli("contact", "confirm", two.name)
            for here, there in ((one, two), (two, one)):
                until("linked", lambda: linked(here, there) and "established" in here.cli("contact", "list"), 90, 0.3)
            room = one.must("POST", CLIENT + "/createRoom", {"invite": [bob_id]}, alice)["room_id"]
            until("joined", lambda: two.call("POST", f"{CLIENT}/join/{quote(room)}", {}, bob)[0] == 200, 60, 0.3)
            send(one, two, alice, bob, room, "first")
            one.stop()
            one.start()
            up(one, "start with a warm cache, until Tor is up")
            first = send(one, two, alice, bob, room, "after the start")
            print(f"first message after a start: {first:.2f} s", flush=True)
            times = [send(one, two, alice, bob, room, f"message {n}") for n in range(MESSAGES)]
            print(f"a message by mailbox, circuits open: p50 {statistics.median(times) * 1000:.0f} ms, p95 {percentile(times, 0.95) * 1000:.0f} ms", flush=True)
            settled(one)
            time.sleep(REST_S)
            for each in (one, two, relay):
                print(f"memory at rest, {each.label}: {rss_mb(each.process):.0f} MB", flush=True)
        finally:
            for node in run.nodes:
                if node.process and node.process.poll() is None:
                    node.kill()
            net.end()


def added(node, relay):
    try:
        mailboxes(node, [relay])
        return True
    except Failed:
        return False


def send(one, two, alice, bob, room, body):
    begin = time.monotonic()
    one.must("PUT", f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{uuid.uuid4().hex}", {"msgtype": "m.text", "body": body}, alice)
    until(body, lambda: seen(two, bob, room, body), 90, 0.02)
    return time.monotonic() - begin


main()
