#!/usr/bin/env python3
"""Alice and Bob with unmodified matrix-nio, on nodes that never run at the same time, through mailboxes at two independent hosts: contact, invite,
join, encrypted messages both ways, a file, history from before the invite, and device verification (SAS). In the end the hosts' files and logs are
searched for names, rooms and addresses. Needs matrix-nio[e2e]; the binary is $MILLPOND or the debug build."""
import asyncio, datetime, re, sys, uuid

from nio import (KeyVerificationAccept, KeyVerificationCancel, KeyVerificationKey, KeyVerificationMac, KeyVerificationStart, ToDeviceError)
from nio.crypto import sas as nio_sas

from host_traces import searched
from millpond_node import Failed, Run, linked, until
from nio_people import Person, ok
from relay_host import Relay, Turns, mailboxes

PASSWORD = "mailboxes-" + uuid.uuid4().hex
# nio gives a verification one minute from its beginning to its end, for two people who sit at their devices at once; ours never are. It counts from
# the moment at which the verification was made and is not renewed by its events, so on a slow machine the last step came too late.
nio_sas.Sas._max_age = nio_sas.Sas._max_event_timeout = datetime.timedelta(minutes=15)
EARLY = "said before the invite"
ROUNDS = 12  # of waking up in turn until something has gone both ways


class Sas:
    """What a user does who verifies a device: accepts, compares the emoji, says yes."""

    def __init__(self, person):
        self.person, self.client, self.seen, self.done = person, person.client, None, False
        for kind in (KeyVerificationStart, KeyVerificationAccept, KeyVerificationKey, KeyVerificationMac, KeyVerificationCancel):
            self.client.add_to_device_callback(self.on_event, kind)

    async def on_event(self, event):
        transaction = event.transaction_id
        if isinstance(event, KeyVerificationCancel):
            raise Failed(f"{self.person.label}: the verification was cancelled: {event.code} {event.reason}")
        if isinstance(event, KeyVerificationStart):
            await self.send(self.client.accept_key_verification(transaction))
            sas = self.client.key_verifications[transaction]
            await self.send(self.client.to_device(sas.share_key()))
        elif isinstance(event, KeyVerificationKey):
            sas = self.client.key_verifications[transaction]
            self.seen = [emoji[1] for emoji in sas.get_emoji()]
            await self.send(self.client.confirm_short_auth_string(transaction))
        elif isinstance(event, KeyVerificationMac):
            sas = self.client.key_verifications[transaction]
            self.done = bool(sas.verified)

    async def send(self, sending):
        answer = await sending
        if isinstance(answer, ToDeviceError):
            raise Failed(f"{self.person.label}: {answer}")


async def in_turn(turns, people, what, reached):
    """Wakes the nodes one after the other until something is so."""
    for _ in range(ROUNDS):
        for person in people:
            turns.wake(person.node)
            for _ in range(8):
                await person.settle(1)
                if reached():
                    return ok(what)
    raise Failed(f"{what}: not within {ROUNDS} turns")


async def until_in_turn(turns, people, what, reached):
    """The same for something that the last of them asks his own node for."""
    for _ in range(ROUNDS):
        for person in people:
            turns.wake(person.node)
            await person.settle(3)
        if await reached():
            return ok(what)
    raise Failed(f"{what}: not within {ROUNDS} turns")


async def contact(turns, one, two):
    """First contact with disjoint uptimes: link, box, answer, confirmation."""
    turns.wake(one)
    shown = one.cli("contact")
    links = [word for word in re.findall(r"\S+", shown) if re.fullmatch(r"[A-Za-z0-9_:/.#?=+-]{80,}", word)]
    if not links:
        raise Failed(f"`millpond contact` printed no link:\n{shown}")
    turns.wake(two)
    two.cli("contact", "add", links[0])
    until("Bob's node has answered the box", lambda: "waiting for the other side" in two.cli("contact", "list"), 60, 0.3)
    turns.wake(one)
    until("Alice's node sees who answered", lambda: two.name in one.cli("contact", "list"), 60, 0.3)
    one.cli("contact", "confirm", two.name)
    until("Alice's node is linked", lambda: linked(one, two), 30, 0.3)
    turns.wake(two)
    until("Bob's node hears that it is confirmed", lambda: "established" in two.cli("contact", "list"), 60, 0.3)
    ok("linked, never on together")


async def talk(turns, alice, bob):
    people = (alice, bob)
    turns.wake(alice.node)
    room = await alice.create("a room of mailboxes", [], encrypted=False)
    await alice.until("is in the room", lambda: room in alice.client.rooms)
    await alice.say(room, EARLY)
    content = uuid.uuid4().bytes * 5_000
    file = await alice.upload(content)
    await alice.encrypt(room)
    await alice.invite(room, bob)
    turns.wake(bob.node)
    await bob.accept(room)
    # What came before the invite, and the file, are with Alice, who sleeps: Bob's node asks her over her mailboxes.
    ok("the history is not there yet", EARLY not in await bob.history(room))
    ok("the file is not there yet", not await bob.has_file(file, content))
    await in_turn(turns, people, "Alice sees Bob joined", lambda: room in alice.client.rooms and any(
        user.user_id == bob.id and not user.invited for user in alice.client.rooms[room].users.values()))
    turns.wake(alice.node)
    await alice.knows_devices([bob])
    await alice.say(room, "secret from Alice")
    turns.wake(bob.node)
    await bob.reads(room, "secret from Alice")
    await bob.knows_devices([alice])
    await bob.say(room, "secret from Bob")
    turns.wake(alice.node)
    await alice.reads(room, "secret from Bob")
    turns.wake(bob.node)
    for what, there in (("history from before the invite", history_there), ("a file of 80 kB", file_there)):
        await until_in_turn(turns, people, f"Bob has {what}, over mailboxes", lambda: there(bob, room, file, content))
    return room


async def history_there(bob, room, _file, _content):
    return EARLY in await bob.history(room)


async def file_there(bob, _room, file, content):
    return await bob.has_file(file, content)


async def verify(turns, alice, bob):
    at_alice, at_bob = Sas(alice), Sas(bob)
    turns.wake(alice.node)
    device = next(d for d in alice.client.device_store.active_user_devices(bob.id) if d.id == bob.client.device_id)
    await alice.client.start_key_verification(device)
    await in_turn(turns, (bob, alice), "SAS verification is done on both sides", lambda: at_alice.done and at_bob.done)
    ok("both saw the same emoji", at_alice.seen and at_alice.seen == at_bob.seen, f"{at_alice.seen} {at_bob.seen}")
    ok("Alice's client holds Bob's device for verified", device.verified)


async def main():
    with Run() as run:
        relays = [Relay(name, run.folder, address="127.0.0.2").start() for name in ("relay-1", "relay-2")]
        run.nodes.extend(relays)
        one, two = run.node("one"), run.node("two")
        people = []
        for node, name in ((one, "alice"), (two, "bob")):
            node.register(name, PASSWORD)
            mailboxes(node, relays)
            person = await Person(node.url, name, PASSWORD, name.capitalize()).login()
            person.node = node
            people.append(person)
        ok("both nodes have mailboxes at both hosts")
        for node in (one, two):
            node.stop()
        turns = Turns([one, two])
        try:
            await contact(turns, one, two)
            room = await talk(turns, *people)
            await verify(turns, *people)
        finally:
            for person in people:
                await person.close()
        turns.sleep()
        for node in (one, two):
            node.cli("check")
        for relay in relays:
            relay.kill()
            places = searched(relay, [one.name, two.name], [person.id for person in people] + ["alice", "bob"], [room], ["127.0.0.1"])
            ok(f"{relay.label}: no name, user, room or address in {places}")
    print("ALL OK mailboxes, with never more than one of the two nodes running")


try:
    asyncio.run(main())
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
