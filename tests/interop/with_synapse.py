#!/usr/bin/env python3
"""Millpond with a DNS name and Synapse, over HTTPS: everything that rooms do across servers, both ways and in room versions 10, 11 and 12. E2EE with
matrix-nio. Without arguments all steps; or the names of some: members talk directory history media encrypted in_part both restart partition."""
import asyncio, concurrent.futures, os, sys, time, uuid

from classic_nodes import CLIENT, ClassicRun, User, download, upload
from millpond_node import Failed, link, quote, until
from relay_host import Relay, mailboxes, settled, status

VERSIONS = ("10", "11", "12")
PASSWORD = "synapse-" + uuid.uuid4().hex
MEMBERS = int(os.environ.get("SYNAPSE_MEMBERS", "60"))
SILENCE_S = float(os.environ.get("SYNAPSE_SILENCE_S", "20"))


def ok(what):
    print("ok", what, flush=True)


def fresh(server, label):
    return User(server, f"{label}-{uuid.uuid4().hex[:6]}", PASSWORD)


def together(first, second, version="12", **more):
    """A public room of the first user with the second one in it."""
    room = first.create(room_version=version, preset="public_chat", **more)
    second.join(room, first.server.name)
    first.sees(room, second, "join")
    return room


def same_state(users, room, limit_s=60):
    """Waits until all servers name the same events of state."""
    try:
        until("all servers have the same state", lambda: len({tuple(user.state_ids(room)) for user in users}) == 1, limit_s, 0.5)
    except Failed as failure:
        kept = [{(event["type"], event["state_key"], event["event_id"]) for event in user.state(room)} for user in users]
        apart = "\n".join(f"{user.server.label}: {sorted(state - set.intersection(*kept))}" for user, state in zip(users, kept))
        raise Failed(f"{failure}; beside what all have\n{apart}") from None


def members(here, there):
    for version in VERSIONS:
        a, b = fresh(here, "ann"), fresh(there, "ben")
        invited = a.create(room_version=version, preset="private_chat", name="invited", invite=[b.id])
        b.invited_to(invited)
        b.join(invited)
        a.sees(invited, b, "join")
        b.leave(invited)
        a.sees(invited, b, "leave")
        a.invite(invited, b)
        b.invited_to(invited)
        b.leave(invited)
        a.sees(invited, b, "leave")

        knocked = a.create(room_version=version, preset="private_chat",
                           initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}])
        b.knock(knocked, a.server.name)
        a.sees(knocked, b, "knock")
        a.invite(knocked, b)
        b.invited_to(knocked)
        b.join(knocked, a.server.name)
        a.sees(knocked, b, "join")

        space = a.create(room_version=version, preset="public_chat", creation_content={"type": "m.space"})
        rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]}
        restricted = a.create(room_version=version, preset="private_chat",
                              initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}])
        a.set(space, "m.space.child", {"via": [a.server.name]}, restricted)
        status, answer = b.try_join(restricted, a.server.name)
        if status < 400:
            raise Failed(f"a user outside the space joined the restricted room: {answer}")
        b.join(space, a.server.name)
        a.sees(space, b, "join")
        b.join(restricted, a.server.name)
        a.sees(restricted, b, "join")

        a.ban(restricted, b)
        b.out_of(restricted)
        status, answer = b.try_join(restricted, a.server.name)
        if status != 403:
            raise Failed(f"a banned user who joins got {status} {answer}")
        ok(f"members, {here.label} creates version {version}")


def talk(here, there):
    for version in VERSIONS:
        talk_in(version, here, there)
    ok(f"messages, edits, redactions, receipts, typing, presence in versions {', '.join(VERSIONS)}; {there.label} to {here.label}")


def talk_in(version, here, there):
    a, b = fresh(here, "ann"), fresh(there, "ben")
    room = together(a, b, version)
    said = b.say(room, "one thing")
    a.reads(room, "one thing")
    edit = {"msgtype": "m.text", "body": "* another", "m.new_content": {"msgtype": "m.text", "body": "another"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": said}}
    b.send(room, "m.room.message", edit)
    a.reads(room, "* another")
    b.must("PUT", b.in_room(room, f"/redact/{quote(said)}/{uuid.uuid4()}"), {"reason": "never mind"})
    until("the redaction arrives", lambda: "body" not in (a.event(room, said) or {"content": {"body": 1}})["content"], 30)
    last = a.say(room, "read me")
    b.reads(room, "read me")
    b.must("POST", b.in_room(room, f"/receipt/m.read/{quote(last)}"), {})

    def of_room(user, kind):
        return [event["content"] for event in user.sync().ephemeral.get(room, []) if event["type"] == kind]

    until("the receipt arrives", lambda: any(b.id in content.get(last, {}).get("m.read", {}) for content in of_room(a, "m.receipt")), 30)
    b.must("PUT", b.in_room(room, f"/typing/{quote(b.id)}"), {"typing": True, "timeout": 30_000})
    until("typing arrives", lambda: any(b.id in content.get("user_ids", []) for content in of_room(a, "m.typing")), 30)
    b.must("PUT", f"{CLIENT}/presence/{quote(b.id)}/status", {"presence": "online", "status_msg": f"by the water {version}"})
    until("presence arrives", lambda: a.sync().presence.get(b.id, {}).get("status_msg") == f"by the water {version}", 60)
    same_state([a, b], room)


def directory(here, there):
    a, b = fresh(here, "ann"), fresh(there, "ben")
    local = "pond-" + uuid.uuid4().hex[:8]
    room = a.create(preset="public_chat", visibility="public", name="Frogs " + local, room_alias_name=local)
    alias = f"#{local}:{here.name}"
    if b.join(alias) != room:
        raise Failed(f"{alias} led elsewhere")
    everywhere = lambda user, path, body=None: user.must("POST" if body else "GET", f"{CLIENT}/publicRooms?server={quote(here.name)}{path}", body)
    for path, body in ("", {"filter": {"generic_search_term": local}, "limit": 10}), ("&limit=100", None):
        # Synapse keeps a list of its list for a moment.
        for user in (a, b):
            until(f"{user.server.label} shows the room in the directory of {here.label}",
                  lambda: room in [listed["room_id"] for listed in everywhere(user, path, body)["chunk"]], 30, 0.5)
        own, seen = ([listed["room_id"] for listed in everywhere(user, path, body)["chunk"]] for user in (a, b))
        if own != seen:
            raise Failed(f"the directory of {here.label} is {own} at home and {seen} at {there.label}")
    ok(f"alias and public directory of {here.label}")


def history(here, there):
    a, b = fresh(here, "ann"), fresh(there, "ben")
    room = a.create(preset="public_chat")
    for number in range(500):
        a.say(room, f"line {number}")
    b.join(room, here.name)
    seen, token = [], None
    for _ in range(60):
        page = b.messages(room, 50, token)
        seen += [event["content"].get("body") for event in page["chunk"] if event["type"] == "m.room.message"]
        token = page.get("end")
        if not token or len(seen) >= 500:
            break
    if seen != [f"line {number}" for number in reversed(range(500))]:
        raise Failed(f"{there.label} read {len(seen)} of 500 lines of history, or in another order")
    ok(f"500 events of history from {here.label} to {there.label}")


def media(here, there):
    a, b = fresh(here, "ann"), fresh(there, "ben")
    content = os.urandom(300_000)
    if download(b, upload(a, content)) != content:
        raise Failed("a file arrived changed")
    ok(f"a file from {here.label} to {there.label}")


async def encrypt(here, there, version):
    from nio_people import Person
    ann, ben = fresh(here, "ann"), fresh(there, "ben")
    a, b = await Person(here.url, ann.id, PASSWORD, "ANN").login(), await Person(there.url, ben.id, PASSWORD, "BEN").login()
    try:
        room = await a.create("secrets", [b], encrypted=True, version=version)
        await b.accept(room)
        await a.sees_members(room, [a, b])
        await b.sees_members(room, [a, b])
        await a.say(room, "under the water")
        await b.reads(room, "under the water")
        await b.say(room, "and back")
        await a.reads(room, "and back")
    finally:
        await a.client.close()
        await b.client.close()


def encrypted(here, there):
    for version in VERSIONS:
        asyncio.run(encrypt(here, there, version))
    ok(f"E2EE between {here.label} and {there.label}, versions {', '.join(VERSIONS)}")


def restart(here, there):
    a, b = fresh(here, "ann"), fresh(there, "ben")
    room = together(a, b)
    a.say(room, "before")
    b.reads(room, "before")
    there.kill()
    a.say(room, "while you were gone")
    here.kill()
    here.start()
    there.start()
    b.reads(room, "while you were gone", 90)
    b.say(room, "back again")
    a.reads(room, "back again", 60)
    ok("both killed with -9 and restarted")
    # A silence that is longer than the first waits of both, then catch-up of what was said meanwhile.
    for gone, stays in ((b, a), (a, b)):
        gone.server.kill()
        stays.say(room, f"{stays.id} talks to himself")
        until("the silence", lambda end=[None]: _elapsed(end, SILENCE_S), SILENCE_S + 5, 1)
        stays.say(room, f"{stays.id} still does")
        gone.server.start()
        gone.say(room, f"{gone.id} is back")
        stays.reads(room, f"{gone.id} is back", 90)
        gone.reads(room, f"{stays.id} talks to himself", 90)
        gone.reads(room, f"{stays.id} still does", 90)
    same_state([a, b], room)
    ok(f"silence of {SILENCE_S:.0f} s and catch-up, both ways")


def _elapsed(end, seconds):
    end[0] = end[0] or time.monotonic() + seconds
    return time.monotonic() >= end[0]


def both(run, here, there):
    """One node in an overlay room, with a key-named node over libp2p, and in a classic room, with Synapse, at the same time."""
    pond = run.key_named()
    a, b, k = fresh(here, "ann"), fresh(there, "ben"), fresh(pond, "kim")
    link(here, pond)
    private = a.create(preset="private_chat", creation_content={"org.millpond.federation": "overlay"}, invite=[k.id])
    k.invited_to(private)
    k.join(private)
    a.sees(private, k, "join")
    public = together(a, b)
    for number in range(3):
        a.say(private, f"between us {number}")
        k.reads(private, f"between us {number}")
        k.say(private, f"and back {number}")
        a.reads(private, f"and back {number}")
        b.say(public, f"for everybody {number}")
        a.reads(public, f"for everybody {number}")
        a.say(public, f"heard {number}")
        b.reads(public, f"heard {number}")
    same_state([a, k], private)
    same_state([a, b], public)
    content = os.urandom(100_000)
    if download(k, upload(a, content)) != content or download(a, upload(k, content)) != content:
        raise Failed("a file arrived changed")
    # What is private is not there for Synapse, and what is classic is refused to the key-named node, in words.
    status, answer = b.try_join(private, here.name)
    if status < 400:
        raise Failed(f"Synapse joined the overlay room: {answer}")
    status, answer = a.call("POST", a.in_room(public, "/invite"), {"user_id": k.id})
    if status != 403 or "classic" not in answer.get("error", ""):
        raise Failed(f"a key-named node was invited into a classic room: {status} {answer}")
    here.kill()
    k.say(private, "while you were gone")
    b.say(public, "so were you")
    here.start()
    a.reads(private, "while you were gone", 60)
    a.reads(public, "so were you", 60)
    ok("an overlay room with a key-named node and a classic room with Synapse on one node")
    never_together(run, (here, a), (pond, k), (there, b), private, public)
    pond.cli("check")


def never_together(run, here_and_a, pond_and_k, there_and_b, private, public):
    """The same two rooms, with mailboxes for the overlay room: the node with a DNS name and the one named by its key are not up together any more."""
    (here, a), (pond, k), (_, b) = here_and_a, pond_and_k, there_and_b
    relays = [Relay(label, run.folder).start() for label in ("host-a", "host-b")]
    run.nodes += relays
    for node in (here, pond):
        mailboxes(node, relays)
    for node in (here, pond):
        until(f"{node.label} can deposit", lambda: any((contact.get("mail") or {}).get("stamps") for contact in status(node)["contacts"]), 60, 0.3)
    for turn in range(2):
        settled(here)
        here.stop()
        k.say(private, f"into your mailbox {turn}")
        b.say(public, f"nobody is there {turn}")
        settled(pond)
        pond.stop()
        here.start()
        a.reads(private, f"into your mailbox {turn}", 90)
        a.reads(public, f"nobody is there {turn}", 90)
        a.say(private, f"into yours {turn}")
        a.say(public, f"I am back {turn}")
        b.reads(public, f"I am back {turn}", 60)
        settled(here)
        here.stop()
        pond.start()
        k.reads(private, f"into yours {turn}", 90)
        here.start()
    same_state([a, k], private)
    same_state([a, b], public)
    pond.stop()
    ok("the overlay room over mailboxes, never together, and the classic room with Synapse meanwhile")


def in_part(here, there):
    """A room of Synapse with many members: it is in use at once, its members come behind, also when the node is killed in between."""
    a, b = fresh(there, "ann"), fresh(here, "ben")
    room = a.create(room_version="12", preset="public_chat", name="many")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(lambda n: fresh(there, f"m{n}"), range(MEMBERS)))
        list(pool.map(lambda user: user.must("POST", f"{CLIENT}/join/{quote(room)}", {}), crowd))
    b.join(room, there.name)
    here.kill()
    crowd[7].say(room, "did you see that?")
    here.start()
    b.say(room, "I am here")
    b.reads(room, "did you see that?", 60)
    a.reads(room, "I am here", 60)
    until("every member is there", lambda: len(members_of(b, room)) == MEMBERS + 2, 60, 0.2)
    same_state([a, b], room)
    if "being fetched" in here.cli("status"):
        raise Failed("the room is whole and is shown as being joined")
    ok(f"a room of {MEMBERS + 2} members joined in part, with kill -9 in between")


def members_of(user, room):
    status, answer = user.call("GET", user.in_room(room, "/joined_members"))
    return answer["joined"] if status == 200 else []


def partition(run, here, there):
    """Three servers, each alone for a while: power levels against bans. All three must agree afterwards."""
    third = run.millpond("third")
    a, b, c, victim = fresh(here, "ann"), fresh(there, "ben"), fresh(third, "cid"), fresh(there, "vic")
    for version in VERSIONS[::2]:
        users = {b.id: 90, c.id: 50} if version == "12" else {a.id: 100, b.id: 90, c.id: 50}
        room = a.create(room_version=version, preset="public_chat")
        there_already = [a]
        for user in (b, c, victim):
            user.join(room, here.name)
            # Who does not know of a member does not send it anything, so each waits for those before.
            for other in there_already:
                other.sees(room, user, "join")
            there_already.append(user)
        levels = dict(a.must("GET", a.in_room(room, "/state/m.room.power_levels/")))
        levels["events"] = {**levels["events"], "m.room.power_levels": 50}
        a.set(room, "m.room.power_levels", {**levels, "users": users})
        same_state([a, b, c], room)
        servers = (here, there, third)

        def alone(server):
            for other in servers:
                if other is not server and other.process.poll() is None:
                    other.kill()
            if server.process.poll() is not None:
                server.start()

        alone(here)
        a.ban(room, victim)
        a.set(room, "m.room.topic", {"topic": "of Ann"})
        alone(there)
        b.set(room, "m.room.power_levels", {**levels, "users": {**users, c.id: 0}, "invite": 50})
        victim_said = b.set(room, "m.room.topic", {"topic": "of Ben"})
        alone(third)
        c.set(room, "m.room.power_levels", {**levels, "users": users, "events_default": 10})
        c.set(room, "m.room.name", {"name": "of Cid"})
        for server in servers:
            if server.process.poll() is not None:
                server.start()
        # Each says something, so that everybody hears of everybody's branch.
        for user in (a, b, c):
            user.call("PUT", user.in_room(room, f"/state/m.room.avatar/"), {"url": f"mxc://x/{uuid.uuid4().hex}"})
            user.call("PUT", user.in_room(room, f"/send/m.room.message/{uuid.uuid4()}"), {"msgtype": "m.text", "body": "here"})
        same_state([a, b, c], room, 120)
        if a.membership(room, victim) != "ban":
            raise Failed("the ban was lost")
        ok(f"three servers agree after a partition, version {version} ({victim_said[:9]}...)")


STEPS = (members, talk, directory, history, media, encrypted)


def main(names):
    known = {step.__name__ for step in STEPS} | {"in_part", "both", "restart", "partition"}
    if unknown := set(names) - known:
        sys.exit(f"unknown steps {sorted(unknown)}: {' '.join(sorted(known))}")
    os.environ["SYNAPSE_BCRYPT"] = "4"  # accounts for a moment
    with ClassicRun() as run:
        millpond, synapse = run.millpond(), run.synapse()
        for step in STEPS:
            if not names or step.__name__ in names:
                step(millpond, synapse)
                step(synapse, millpond)
        if not names or "in_part" in names:
            in_part(millpond, synapse)
        if not names or "both" in names:
            both(run, millpond, synapse)
        if not names or "restart" in names:
            restart(millpond, synapse)
        if not names or "partition" in names:
            partition(run, millpond, synapse)
    print("ALL OK synapse")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as failure:
        sys.exit(f"FAIL {failure}")
