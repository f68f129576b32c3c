#!/usr/bin/env python3
"""Alice, Bob and Carol on three nodes; Bob's and Carol's know only Alice's. All must see everything, E2EE included, and once they have met in
the room Bob and Carol must reach each other with Alice's node gone. Needs matrix-nio[e2e]."""
import asyncio, sys, uuid

from millpond_node import Failed, Run, link
from nio_people import Person, ok

PASSWORD = "three-nodes-" + uuid.uuid4().hex


async def everybody_hears_everybody(room, people, words):
    for speaker in people:
        await speaker.say(room, f"{words} from {speaker.label}")
    for listener in people:
        await listener.reads(room, *[f"{words} from {speaker.label}" for speaker in people])


async def gather(owner, guests, encrypted):
    kind = "encrypted" if encrypted else "plain"
    room = await owner.create(f"{kind}, three nodes", guests, encrypted)
    for guest in guests:
        await guest.accept(room)
    people = [owner, *guests]
    for person in people:
        await person.sees_members(room, people)
    if encrypted:
        for person in people:
            await person.knows_devices(people)
    return room


async def main():
    with Run() as run:
        a, b, c = run.node("a"), run.node("b"), run.node("c")
        for node, user in ((a, "alice"), (b, "bob"), (c, "carol")):
            node.register(user, PASSWORD)
        for node in (b, c):
            link(a, node)
            ok(f"a and {node.label} linked")
        alice = await Person(a.url, "alice", PASSWORD, "Alice").login()
        bob = await Person(b.url, "bob", PASSWORD, "Bob").login()
        carol = await Person(c.url, "carol", PASSWORD, "Carol").login()
        people = [alice, bob, carol]
        try:
            room = await gather(alice, [bob, carol], encrypted=False)
            await everybody_hears_everybody(room, people, "plain")
            content = b"picture" * 5000
            await carol.downloads(await bob.upload(content), content, within_s=60)
            room = await gather(alice, [bob, carol], encrypted=True)
            await everybody_hears_everybody(room, people, "secret")
            a.kill()
            ok("node a killed with -9")
            await everybody_hears_everybody(room, [bob, carol], "without Alice")
            a.start()
            await alice.reads(room, "without Alice from Bob", "without Alice from Carol")
        finally:
            for person in people:
                await person.close()
        for node in run.nodes:
            node.stop()
            node.cli("check")
            ok(f"node {node.label} stops in order and its database is whole")
    print("ALL OK three nodes")


try:
    asyncio.run(main())
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
