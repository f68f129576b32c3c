#!/usr/bin/env python3
"""A desktop node that hosts mailboxes for its contacts with one switch. Bob, linked with Alice, is offered one and takes it without a token; Carol, who
knows Bob only, writes to him while he sleeps, by Alice's host, and sleeps when he wakes. Standard library only."""
import sys, time

from kill_test import Side, meet, ok
from millpond_node import CLIENT, Failed, Run, link, quote, until
from relay_host import settled, status

SECONDS = 60


def lines(node):
    return [line for line in node.cli("mailbox", "list").splitlines() if line]


def say(side, room, body):
    path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{quote(body)}"
    side.patiently("PUT", path, {"msgtype": "m.text", "body": body})


def texts(side, room):
    return [body for _, body in side.timeline(room)]


def main():
    started = time.monotonic()
    with Run() as run:
        host = run.node("host", "--host-mailboxes", "true", "--tor", "off", "--direct-addresses", "127.0.0.1")
        options = ("--tor", "off", "--direct-addresses", "127.0.0.1")
        alice = Side(host, "alice")
        bob, carol = Side(run.node("two", *options), "bob"), Side(run.node("three", *options), "carol")
        link(alice.node, bob.node)
        until("Bob is offered a mailbox", lambda: any("offered by " + alice.node.name in line for line in lines(bob.node)), SECONDS)
        if status(bob.node)["mailboxes"]:
            raise Failed("Bob keeps a mailbox at an open address, and nobody said so")
        ok("Bob is offered a mailbox, and asked")
        bob.node.cli("mailbox", "accept", alice.node.name)
        if not any("ordinary, in use" in line for line in lines(bob.node)):
            raise Failed(f"Bob has no mailbox: {lines(bob.node)}")
        ok("Bob keeps a mailbox at Alice's node, and copied no token")
        link(carol.node, bob.node)
        room = meet(carol, bob)
        def stamps():
            contact = next(c for c in status(carol.node)["contacts"] if c["name"] == bob.node.name)
            return (contact.get("mail") or {}).get("stamps", 0) > 0
        until("Carol has stamps for it", stamps, SECONDS)
        bob.node.stop()
        say(carol, room, "to who sleeps")
        settled(carol.node)
        carol.node.stop()
        ok("Carol has written to Bob, who sleeps, and sleeps")
        bob.node.start()
        until("Bob reads it", lambda: texts(bob, room) == ["to who sleeps"], SECONDS)
        ok("Bob reads it, out of the mailbox at Alice's node")
        # The host comes back with other addresses as little as with the same: Bob goes on.
        alice.node.kill()
        alice.node.start()
        bob.node.stop()
        carol.node.start()
        say(carol, room, "after the host was killed")
        settled(carol.node)
        carol.node.stop()
        bob.node.start()
        until("Bob reads that too", lambda: "after the host was killed" in texts(bob, room), SECONDS)
        ok("the host was killed and came back, and Bob reads what came then")
        carol.node.start()
        for side in (alice, bob, carol):
            side.node.stop()
            side.node.cli("check")
        ok("the databases are whole")
    print(f"ALL OK mailboxes at a contact's node, {time.monotonic() - started:.0f} s")


try:
    main()
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
