#!/usr/bin/env python3
"""Nodes over Tor, on a private Tor network of C tor relays on loopback, with unmodified matrix-nio clients. Part one: mailboxes at two hosts that are
onion services; first contact by a pickup box, encrypted talk, a kill -9, a way in by bridges, and an outage of the whole Tor network. Part two: onion
services of the nodes' own, one of which shows itself to contacts only; direct delivery, strangers who knock, a peer that falls asleep or dies without
a word. Needs Debian's tor and obfs4proxy, and matrix-nio[e2e]; the binary is $MILLPOND or the debug build."""
import asyncio, os, re, signal, sys, time, uuid

from millpond_node import Failed, Run, link, linked, until
from nio_people import Person, ok
from relay_host import Relay, ask, mailboxes, status
from tor_net import ASKS_FOR_KEY, BACK_S, NOT_FOUND, TorNet, connections, cpu_s, onion_of, rss_mb

PASSWORD = "tor-" + uuid.uuid4().hex
UP_S = 60.0       # from the first onion route to a usable Tor
DARK_S = 20.0     # how long the processor is watched while there is no network


def told(what, seconds):
    print(f"   {what}: {seconds:.1f} s", flush=True)


async def person(node, name):
    node.register(name, PASSWORD)
    someone = await Person(node.url, name, PASSWORD, name.capitalize()).login()
    someone.node = node
    return someone


def tor_of(node):
    return status(node)["tor"] or {}


def only_onion(node, relay):
    """What a host prints shows no IP address."""
    text = open(relay.log).read()
    ok(f"the link of {relay.label} has no IP address", "Circuit relay" not in text and "/ip4/" not in text)


async def by_mailbox(run, net):
    relays = [Relay(name, run.folder, "--tor", "only").start() for name in ("relay-1", "relay-2")]
    run.nodes.extend(relays)
    links = [relay.url for relay in relays]
    one, two = run.node("one"), run.node("two")
    ok("no Tor before there is an onion route", tor_of(one)["state"] == "idle" and not os.path.exists(os.path.join(one.data, "tor")))
    alice, bob = await person(one, "alice"), await person(two, "bob")
    begin = time.monotonic()
    until("a mailbox at an onion service", lambda: try_mailbox(one, relays[0]), UP_S, 1)
    told("from the host link to the first mailbox", time.monotonic() - begin)
    # That one host has told the network where it is says nothing of the other.
    for node, relay in ((one, relays[1]), (two, relays[0]), (two, relays[1])):
        until(f"a mailbox of {node.label} at {relay.label}", lambda: try_mailbox(node, relay), UP_S, 1)
    ok("Tor is up and mailboxes are by Tor", tor_of(one)["state"] == "up" and all(m["onion"] for m in status(one)["mailboxes"]))
    only_onion(one, relays[0])

    shown = one.cli("contact")
    contact = next(word for word in re.findall(r"\S+", shown) if re.fullmatch(r"[A-Za-z0-9_:/.#?=+-]{80,}", word))
    begin = time.monotonic()
    two.cli("contact", "add", contact)
    until("Alice's node sees who answered the box", lambda: two.name in one.cli("contact", "list"), 90, 0.3)
    one.cli("contact", "confirm", two.name)
    for here, there in ((one, two), (two, one)):
        until(f"{here.label} is linked", lambda: linked(here, there) and "established" in here.cli("contact", "list"), 90, 0.3)
    told("first contact over a pickup box", time.monotonic() - begin)

    room = await alice.create("a room over Tor", [bob], encrypted=True)
    await bob.accept(room)
    await alice.sees_members(room, [bob])
    await alice.knows_devices([bob])
    await bob.knows_devices([alice])
    begin = time.monotonic()
    await alice.say(room, "by onion")
    await bob.reads(room, "by onion")
    told("one message", time.monotonic() - begin)
    await bob.say(room, "and back")
    await alice.reads(room, "and back")

    two.kill()
    await alice.say(room, "while two is dead")
    begin = time.monotonic()
    two.start()
    await bob.reads(room, "while two is dead")
    told("read after kill -9 and restart", time.monotonic() - begin)
    await bob.say(room, "from the restarted")
    await alice.reads(room, "from the restarted")

    relays[0].kill()
    relays[0].start()
    ok("a host's address survives its restart", relays[0].url == links[0])
    one_circuit_each(relays)
    by_bridge(run, net, relays[0])
    await dark(net, alice, bob, room, relays)
    return one, two


def try_mailbox(node, relay):
    try:
        mailboxes(node, [relay])
        return True
    except Failed as failure:
        if "token" in str(failure) or "already" in str(failure):
            raise
        print(f"   not yet: {str(failure).rsplit('millpond: ', 1)[-1].strip()}", flush=True)
        return False


def one_circuit_each(relays):
    """From the hosts' side: no circuit carried two streams, so polls and deposits, and two mailboxes, never shared one."""
    for relay in relays:
        seen = re.findall(r"a stream came to the onion service circuit=(\d+) stream=(\d+)", plain(open(relay.log).read()))
        ok(f"every stream to {relay.label} came by a circuit of its own ({len(seen)})", len(seen) > 5 and all(n == "1" for _, n in seen), seen)


    for relay in relays:
        uses = {}
        for stream, deposits, boxes in re.findall(r"a stream is used stream=(\d+) deposits=(true|false) mailboxes=(\d+)", plain(open(relay.log).read())):
            uses[stream] = (deposits == "true", int(boxes))
        kinds = set(uses.values())
        ok(f"at {relay.label} some streams deposited and some polled", {(True, 0), (False, 1)} <= kinds, kinds)
        ok("none did both, and none was for two mailboxes", kinds <= {(True, 0), (False, 1)}, uses)


def by_bridge(run, net, relay):
    """A node that may not connect to any relay gets in by a bridge, in the plain and in a disguised form."""
    plain_line, obfs4, ip = net.bridge()
    wrong = run.unstarted("wrong", "--tor-bridges", "127.51.0.1 no fingerprint")
    said = wrong.refuses_to_start()
    ok("a wrong bridge line is repeated, with what is allowed", all(word in said for word in ("bridges", "no fingerprint", "ADDRESS:PORT FINGERPRINT")), said)
    begin = time.monotonic()
    node = run.node("bridged", "--tor", "only", "--tor-bridges", plain_line)
    until("a mailbox by way of the bridge", lambda: try_mailbox(node, relay), UP_S, 1)
    told("a mailbox by way of a plain bridge", time.monotonic() - begin)
    seen = connections(node.process) - {"127.0.0.1"}
    ok("it is connected to the bridge and to nothing else", seen == {ip}, seen)
    node.stop()
    begin = time.monotonic()
    node = run.unstarted("disguised", "--tor", "only")
    with open(os.path.join(node.data, "millpond.toml"), "w") as file:
        file.write(f'[tor]\nbridges = ["{obfs4}"]\n[[tor.transports]]\nprotocols = ["obfs4"]\npath = "/usr/bin/obfs4proxy"\n')
    node.start()
    until("a mailbox by way of obfs4", lambda: try_mailbox(node, relay), UP_S, 1)
    told("a mailbox by way of obfs4", time.monotonic() - begin)
    ok("the node itself is connected to its transport only", connections(node.process) <= {"127.0.0.1"}, connections(node.process))
    node.stop()


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


async def dark(net, alice, bob, room, relays):
    """The Tor network is gone, comes back, and nothing was lost."""
    net.stop()
    await alice.say(room, "into the dark")
    await bob.say(room, "nobody hears")
    nodes = (alice.node, bob.node)
    until("both nodes say that Tor is down", lambda: all(tor_of(node)["state"] == "down" for node in nodes), 60, 0.5)
    ok("and why, and what waits", all(tor_of(node)["why"] for node in nodes) and "what goes over it waits" in alice.node.cli("status"))
    everybody = [*nodes, *relays]
    before = {each.label: cpu_s(each.process) for each in everybody}
    begin = time.monotonic()
    while time.monotonic() - begin < DARK_S:
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - begin
    shares = {each.label: 100 * (cpu_s(each.process) - before[each.label]) / seconds for each in everybody}
    print("   processor in the dark:", {label: f"{share:.2f} %" for label, share in shares.items()}, flush=True)
    ok("no busy loop without a network", max(shares.values()) < CPU_PERCENT, shares)
    begin = time.monotonic()
    net.start()
    told("the Tor network is back", time.monotonic() - begin)
    begin = time.monotonic()
    await bob.until("reads what was said into the dark", lambda: (room, "into the dark") in bob.bodies, BACK_S)
    await alice.until("reads what nobody heard", lambda: (room, "nobody hears") in alice.bodies, BACK_S)
    told("after that, everything arrived, without a restart", time.monotonic() - begin)


# A debug build runs arti's own code optimised and ours not.
CPU_PERCENT = 1.0


async def by_onion(run, net):
    three, four = run.node("three", "--tor-onion", "true"), run.node("four", "--tor-onion", "true", "--tor-restricted", "true")
    carol, dave = await person(three, "carol"), await person(four, "dave")
    until("both are up", lambda: all(tor_of(node)["state"] == "up" for node in (three, four)), UP_S, 0.3)
    shown = " ".join(ask(three, "POST", "contacts/link")["addresses"])
    ok("the contact link has an onion address and no IP address", "/onion3/" in shown and "/ip" not in shown, shown)
    offer = ask(four, "POST", "contacts/link")
    hidden = " ".join(offer["addresses"])
    begin = time.monotonic()
    # The one who shows himself to contacts only is found by whoever has his link, and by nobody else.
    link(four, three, offer["link"])
    told("first contact at a service that only contacts find", time.monotonic() - begin)
    room = await carol.create("a room between onion services", [dave], encrypted=True)
    await dave.accept(room)
    await carol.knows_devices([dave])
    await dave.knows_devices([carol])
    begin = time.monotonic()
    await carol.say(room, "straight to you")
    await dave.reads(room, "straight to you")
    told("one message, directly", time.monotonic() - begin)
    await dave.say(room, "and straight back")
    await carol.reads(room, "and straight back")
    routes = [contact["route"] for node in (three, four) for contact in status(node)["contacts"] if contact["name"]]
    ok("the streams are onion streams", routes == ["onion", "onion"], routes)
    four.kill()
    await carol.say(room, "while four is dead")
    begin = time.monotonic()
    four.start()
    await dave.reads(room, "while four is dead")
    told("read after kill -9 and restart, directly", time.monotonic() - begin)
    await without_a_word(carol, dave, room)

    net.socks()
    onion, port = onion_of(shown)
    found(net, onion, port)
    count, reason = net.knock(*onion_of(hidden), b"")
    ok("a stranger with the address does not even find the service of a node that is for contacts only", (count, reason) == (None, ASKS_FOR_KEY), (count, reason))
    for what, sent in (("says nothing", b""), ("says 1,000 bytes", os.urandom(1000)), ("speaks HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b" " * 200)):
        count, seconds = net.knock(onion, port, sent)
        ok(f"a stranger through C tor who {what} is closed upon without a byte", count == 0, (count, seconds))
        told("   closed after", seconds)
    refused, reason = net.knock(onion, port + 1, b"")
    ok("another port of the service is refused", refused is None, reason)


def found(net, onion, port):
    """C tor may look for a service where, by an older or newer consensus, it is not; and then does not look there again for long. A new client does."""
    for _ in range(FIND_TRIES):
        if net.knock(onion, port, b"") != (None, NOT_FOUND):
            return
        print("   C tor does not find the service; with a new client once more", flush=True)
        time.sleep(10)
        net.socks()


FIND_TRIES = 6


async def without_a_word(carol, dave, room):
    """A peer whose device falls asleep, and one that dies, with every connection left open."""
    three, four = carol.node, dave.node
    four.process.send_signal(signal.SIGSTOP)
    await carol.say(room, "while four sleeps")
    before, begin = cpu_s(three.process), time.monotonic()
    while time.monotonic() - begin < SLEEP_S:
        await asyncio.sleep(0.5)
    share = 100 * (cpu_s(three.process) - before) / (time.monotonic() - begin)
    ok(f"no busy loop while a peer is dead and has closed nothing ({share:.2f} %)", share < CPU_PERCENT)
    four.process.send_signal(signal.SIGCONT)
    begin = time.monotonic()
    await dave.reads(room, "while four sleeps")
    told("read after it woke", time.monotonic() - begin)
    ok("it knew that it had slept", "the device has slept" in open(four.log).read())
    four.process.send_signal(signal.SIGSTOP)
    await carol.say(room, "to a dead one")
    begin = time.monotonic()
    while time.monotonic() - begin < DEAD_S:
        await asyncio.sleep(0.5)
    four.kill()
    begin = time.monotonic()
    four.start()
    await dave.reads(room, "to a dead one")
    told("read after its restart, without one of the sender's", time.monotonic() - begin)


SLEEP_S = 30.0  # beyond what a node takes for a busy machine
DEAD_S = 12.0   # into the dial that hangs, and its second attempt


async def main():
    with Run() as run:
        net = TorNet(run.folder)
        begin = time.monotonic()
        try:
            net.start()
            told("private Tor network", time.monotonic() - begin)
            if "mailbox" in PARTS:
                one, _ = await by_mailbox(run, net)
                print(f"   memory of a node with Tor on: {rss_mb(one.process):.0f} MB", flush=True)
            run.end()
            if "onion" in PARTS:
                await by_onion(run, net)
        finally:
            run.end()
            net.end()
    print("ALL OK over Tor")


PARTS = sys.argv[1:] or ["mailbox", "onion"]
try:
    asyncio.run(main())
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
