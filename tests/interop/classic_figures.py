#!/usr/bin/env python3
"""Figures of classic federation beside Synapse, by hand on a quiet machine with a release binary (MILLPOND): the join of a large room, and how fast PDUs
of another server are taken. `classic_figures.py [join] [inbound]`; MEMBERS (2000), STATE (5000) and PDUS (5000) make smaller ones."""
import concurrent.futures, os, sys, time, uuid

from classic_nodes import CLIENT, ClassicRun, User
from millpond_node import BINARY, Failed, quote, until

PASSWORD = "figures-" + uuid.uuid4().hex
MEMBERS, STATE, PDUS = (int(os.environ.get(name, default)) for name, default in (("MEMBERS", 2000), ("STATE", 5000), ("PDUS", 5000)))
AT_ONCE = 4


def fresh(server, label):
    return User(server, f"{label}-{uuid.uuid4().hex[:10]}", PASSWORD)


def many(what, work, count):
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, range(count)))
    print(f"   {what}: {count} in {time.monotonic() - begun:.0f} s", flush=True)


def join(run, synapse):
    """A room of Synapse with MEMBERS members and STATE events of state, joined from Millpond, then from a second Synapse."""
    a = fresh(synapse, "ann")
    room = a.create(preset="public_chat", room_version="12", name="large")
    many("members", lambda n: fresh(synapse, f"m{n}").must("POST", f"{CLIENT}/join/{quote(room)}", {}, limit_s=600), MEMBERS - 1)
    many("other state", lambda n: a.set(room, "org.example.state", {"n": n}, str(n)), max(0, STATE - len(a.state(room))))
    a.say(room, "before you came")
    # The room takes long to make: the binary may be built meanwhile.
    until("there is a binary", lambda: os.path.exists(BINARY), 3600, 1)
    for server in (run.millpond("joins"), run.synapse("second")):
        b = fresh(server, "ben")
        begun = time.monotonic()
        b.must("POST", f"{CLIENT}/join/{quote(room)}?server_name={quote(synapse.name)}&via={quote(synapse.name)}", {}, limit_s=600)
        joined = time.monotonic() - begun
        b.say(room, f"{server.label} is here")
        usable = time.monotonic() - begun
        until("the other side reads it", lambda: f"{server.label} is here" in a.texts(room), 120, 0.05)
        heard = time.monotonic() - begun
        # Both join in part; who is asked for the whole state meanwhile waits, or gives up and says so.
        until("all of the state is there", lambda: whole(b, room), 600, 0.2)
        complete = time.monotonic() - begun
        print(f"join, {server.label}: answered {joined:.2f} s, could send {usable:.2f} s, was heard {heard:.2f} s, "
              f"state complete {complete:.2f} s ({len(b.state(room))} events)", flush=True)


def whole(user, room):
    status, state = user.call("GET", user.in_room(room, "/state"), limit_s=600)
    return status == 200 and len(state) >= STATE


def inbound(run, synapse):
    """PDUS messages wait at a third server for one that is gone; from the first to the last that its user can read."""
    millpond, source = run.millpond(), run.millpond("source")
    for server in (millpond, synapse):
        a, b = fresh(source, "src"), fresh(server, "dst")
        room = a.create(preset="public_chat", room_version="12")
        b.join(room, source.name)
        a.sees(room, b, "join")
        a.say(room, "first")
        b.reads(room, "first")
        server.kill()
        many("messages", lambda n: a.say(room, f"line {n}"), PDUS)
        last = a.say(room, "last")
        server.start()
        first = []

        def arrived():
            page = b.messages(room, 1)["chunk"]
            if page and page[0]["content"].get("body") != "first":
                first.append(time.monotonic())
            return b.event(room, last)

        until("all of them are there", arrived, 900, 0.02)
        took = time.monotonic() - first[0]
        print(f"inbound, {server.label}: {PDUS} PDUs in {took:.2f} s, {PDUS / took:.0f} a second", flush=True)


def main(names):
    os.environ["SYNAPSE_BCRYPT"] = "4"  # two thousand accounts, whose passwords nobody guesses
    with ClassicRun() as run:
        synapse = run.synapse()
        for figure in (join, inbound):
            if not names or figure.__name__ in names:
                figure(run, synapse)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failed as failure:
        sys.exit(f"FAIL {failure}")
