#!/usr/bin/env python3
"""Alice on node 1, Bob on node 2, unmodified matrix-nio: plain and encrypted messages both ways, media from the other node, a second device, and
each node killed with -9 in the middle. Needs matrix-nio[e2e]; the node binary is $MILLPOND or $CARGO_TARGET_DIR/debug/millpond.
With HOMESERVER_URL and HOMESERVER_URL2 it runs against two homeservers that stand already (open registration), without linking and killing."""
import asyncio, os, sys, uuid

from millpond_node import Failed, Node, Run, link
from nio_people import Person, ok

RUN = uuid.uuid4().hex[:8]  # so that a standing homeserver can be used again
ALICE, BOB, PASSWORD = "alice-" + RUN, "bob-" + RUN, "two-nodes-" + uuid.uuid4().hex


class Standing:
    """A homeserver that somebody else started."""

    call, must, register = Node.call, Node.must, Node.register

    def __init__(self, label, url):
        self.label, self.url, self.process = label, url, None


def two_servers(run):
    if "HOMESERVER_URL2" in os.environ:
        return Standing("one", os.environ["HOMESERVER_URL"]), Standing("two", os.environ["HOMESERVER_URL2"])
    return run.node("one"), run.node("two")


async def plain(alice, bob):
    room = await alice.create("a plain room", [bob], encrypted=False)
    await bob.accept(room)
    await alice.sees_members(room, [alice, bob])
    await alice.say(room, "plain from Alice")
    await bob.reads(room, "plain from Alice")
    await bob.say(room, "plain from Bob")
    await alice.reads(room, "plain from Bob")
    content = os.urandom(200_000)
    await bob.downloads(await alice.upload(content), content)
    await alice.downloads(await bob.upload(b"small"), b"small")


async def encrypted(alice, bob):
    room = await alice.create("an encrypted room", [bob], encrypted=True)
    await bob.accept(room)
    for person in (alice, bob):
        await person.sees_members(room, [alice, bob])
        await person.knows_devices([alice, bob])
    await alice.say(room, "secret from Alice")
    await bob.reads(room, "secret from Alice")
    await bob.say(room, "secret from Bob")
    await alice.reads(room, "secret from Bob")
    return room


async def new_device(alice, bob, room, url):
    """The device list changes on node 2; Alice, on node 1, must encrypt for the new device too."""
    second = await Person(url, BOB, PASSWORD, "Bob-2").login()
    await alice.knows_devices([bob, second])
    await alice.say(room, "for both devices of Bob")
    for device in (bob, second):
        await device.reads(room, "for both devices of Bob")
    return second


async def killed(alice, bob, room, one, two):
    two.kill()
    ok("node 2 killed with -9")
    waiting = [f"while Bob's node is dead {i}" for i in range(5)]
    for body in waiting:
        await alice.say(room, body)
    one.kill()
    ok("node 1 killed with -9, its messages not delivered")
    two.start()
    one.start()
    await bob.reads(room, *waiting)
    await bob.say(room, "all of it arrived")
    await alice.reads(room, "all of it arrived")


async def main():
    with Run() as run:
        one, two = two_servers(run)
        one.register(ALICE, PASSWORD)
        two.register(BOB, PASSWORD)
        if one.process:
            link(one, two)
            ok("linked")
        alice = await Person(one.url, ALICE, PASSWORD, "Alice-1").login()
        bob = await Person(two.url, BOB, PASSWORD, "Bob-1").login()
        people = [alice, bob]
        try:
            await plain(alice, bob)
            room = await encrypted(alice, bob)
            people.append(await new_device(alice, bob, room, two.url))
            if one.process:
                await killed(alice, bob, room, one, two)
        finally:
            for person in people:
                await person.close()
        for node in run.nodes:
            node.stop()
            node.cli("check")
            ok(f"node {node.label} stops in order and its database is whole")
    print("ALL OK two nodes")


try:
    asyncio.run(main())
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
