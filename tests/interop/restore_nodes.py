#!/usr/bin/env python3
"""A device is lost and restored from an old backup: the link that mailboxes carry comes back by itself (HELLO on the recovery stamp), and nothing that
was said before, after or meanwhile is missing or there twice. Never more than one of the two nodes runs. Standard library only."""
import os, shutil, sys, time

from kill_test import Side, meet, ok
from millpond_node import CLIENT, Failed, Run, link, quote, until
from relay_host import Relay, Turns, mailboxes, status

PHRASE = "a phrase for the backup"
TURNS = 8  # of waking up one after the other until everything has gone both ways


def say(side, room, *bodies):
    for body in bodies:
        path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{quote(body)}"
        side.patiently("PUT", path, {"msgtype": "m.text", "body": body})


def read(side, room):
    """Each text, as often as it is there."""
    found = [body for _, body in side.timeline(room)]
    twice = [body for body in set(found) if found.count(body) > 1]
    if twice:
        raise Failed(f"{side.user} reads twice: {twice}")
    return set(found)


def in_turn(turns, sides, what, reached):
    """Wakes the nodes one after the other until something is so; gives the seconds."""
    started = time.monotonic()
    for _ in range(TURNS):
        for side in sides:
            turns.wake(side.node)
            end = time.monotonic() + 3
            while time.monotonic() < end:
                if reached(side):
                    seconds = time.monotonic() - started
                    ok(f"{what}, {seconds:.0f} s")
                    return seconds
                time.sleep(0.1)
    raise Failed(f"{what}: not within {TURNS} turns")


def main():
    started = time.monotonic()
    with Run() as run:
        relays = [Relay(f"relay-{n}", run.folder).start() for n in (1, 2)]
        run.nodes.extend(relays)
        alice, bob = sides = [Side(run.node("one"), "alice"), Side(run.node("two"), "bob")]
        for side in sides:
            mailboxes(side.node, relays)
        link(alice.node, bob.node)
        room = meet(*sides)
        say(alice, room, "before the backup")
        until("Bob reads it", lambda: "before the backup" in read(bob, room), 60)
        for side, other in ((alice, bob), (bob, alice)):
            def stamps():
                contact = next(c for c in status(side.node)["contacts"] if c["name"] == other.node.name)
                return (contact.get("mail") or {}).get("stamps", 0) > 0
            until(f"{side.user} has stamps", stamps, 60)
        backup = os.path.join(run.folder, "backup")
        alice.node.cli("backup", backup, said=PHRASE + "\n")
        ok("a backup is made")
        # From here on never both.
        bob.node.stop()
        turns = Turns([alice.node, bob.node], up=alice.node)
        say(alice, room, "after the backup")
        turns.wake(bob.node)
        until("Bob reads it", lambda: "after the backup" in read(bob, room), 60)
        say(bob, room, "on its way to who is gone")
        turns.wake(alice.node)
        until("Alice reads it", lambda: "on its way to who is gone" in read(alice, room), 60)
        say(alice, room, "lost with the device")
        # The device is gone at once: what it said last has not left it.
        alice.node.kill()
        turns.up = None
        shutil.rmtree(alice.node.data)
        alice.node.cli("restore", backup, said=PHRASE + "\n")
        ok("the device is lost, and restored from the backup")
        turns.wake(bob.node)
        say(bob, room, "said after the loss")
        wanted = {"before the backup", "after the backup", "on its way to who is gone", "said after the loss"}
        in_turn(turns, (alice, bob), "the restored node reads everything that Bob has", lambda side: side is alice and wanted <= read(alice, room))
        turns.wake(alice.node)
        say(alice, room, "here I am again")
        in_turn(turns, (bob, alice), "Bob reads what the restored node says", lambda side: side is bob and "here I am again" in read(bob, room))
        turns.wake(bob.node)
        if not wanted <= read(bob, room):
            raise Failed(f"Bob has lost something: {sorted(wanted - read(bob, room))}")
        turns.sleep()
        for side in sides:
            side.node.cli("check")
        ok("both databases are whole")
    print(f"ALL OK restore over mailboxes, {time.monotonic() - started:.0f} s")


try:
    main()
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
