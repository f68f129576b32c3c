#!/usr/bin/env python3
"""Two nodes, two writers, and kill -9 at random times on both: every message must arrive exactly once on both sides, the room's state must be
equal, and `millpond check` must find nothing. A failed send means "unknown" to a client: it repeats the request with the same TxnId, as the
specification has it. Standard library only.

With --mailboxes there is no direct link: everything goes through mailboxes at two hosts, which are killed as well; at the end the disk of one host
is wiped, and what is written then still arrives.

usage: kill_test.py [--messages N] [--kills N] [--seed N] [--mailboxes]     N messages from each side, N kills of each process"""
import argparse, collections, random, sys, threading, time

from millpond_node import CLIENT, Failed, Run, link, quote, until
from relay_host import Relay, mailboxes

PASSWORD = "a password for the kill test"
RETRY_S = 0.05       # between two attempts of a client whose node is gone
SETTLE_S = 120       # for everything to arrive after the last restart
PAUSE_S = 0.01       # between two messages of a writer: kills then fall between and into commits alike


BEGAN = time.monotonic()


def ok(what):
    print(f"ok {time.monotonic() - BEGAN:5.1f} s", what, flush=True)


class Side:
    """A node, its user, what was answered to him, and what his /sync brought."""

    def __init__(self, node, user):
        self.node, self.user = node, user
        self.id, self.token = node.register(user, PASSWORD)
        self.answered, self.synced, self.since = {}, [], None
        self.kills, self.failure = 0, None

    def patiently(self, method, path, body=None):
        """The request until it is answered; only a dead node is a reason to repeat it."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            try:
                status, answer = self.node.call(method, path, body, self.token, 30)
            except (OSError, ValueError):  # refused, reset, or cut off in the middle of the answer
                time.sleep(RETRY_S)
                continue
            if status != 200:
                raise Failed(f"{self.user}: {method} {path} answered {status} {answer}")
            return answer
        raise Failed(f"{self.user}: {method} {path} was not answered for {SETTLE_S} s")

    def write(self, room, count):
        for number in range(count):
            body = f"{self.user} {number}"
            path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{self.user}-{number}"
            answer = self.patiently("PUT", path, {"msgtype": "m.text", "body": body})
            self.answered[body] = answer["event_id"]
            time.sleep(PAUSE_S)

    def follow(self, room, stop):
        """What a client does all day: /sync from the last token, over every restart; gaps are filled from /messages."""
        while not stop.is_set():
            self.sync_once(room)

    def sync_once(self, room):
        path = f"{CLIENT}/sync?timeout=500"
        answer = self.patiently("GET", path + (f"&since={quote(self.since)}" if self.since else ""))
        timeline = answer.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {})
        events = timeline.get("events", [])
        if timeline.get("limited") and self.since:
            events = self.gap(room, timeline["prev_batch"], self.since) + events
        self.synced += texts(events)
        self.since = answer["next_batch"]

    def gap(self, room, start, end):
        found = []
        while start:
            path = f"{CLIENT}/rooms/{quote(room)}/messages?dir=b&limit=100&from={quote(start)}&to={quote(end)}"
            answer = self.patiently("GET", path)
            found += answer["chunk"]
            start = answer.get("end") if answer["chunk"] else None
        return found[::-1]

    def timeline(self, room):
        """Every text of the room, by walking it from its end to its beginning."""
        found, start = [], ""
        while True:
            path = f"{CLIENT}/rooms/{quote(room)}/messages?dir=b&limit=100" + (f"&from={quote(start)}" if start else "")
            answer = self.patiently("GET", path)
            found += texts(answer["chunk"])
            start = answer.get("end")
            if not start or not answer["chunk"]:
                return found

    def state(self, room):
        events = self.patiently("GET", f"{CLIENT}/rooms/{quote(room)}/state")
        return {(e["type"], e["state_key"]): e["event_id"] for e in events}

    def guarded(self, work, *arguments):
        """A thread's work; what fails in it is kept for the main thread."""
        try:
            work(*arguments)
        except Exception as failure:
            self.failure = self.failure or failure


def texts(events):
    return [(e["event_id"], e["content"]["body"]) for e in events if e["type"] == "m.room.message"]


def killer(side, rng, kills, messages, done):
    """Kills at random points of the writer's progress, so that all kills fall into the run however fast it is."""
    points = sorted(rng.sample(range(1, messages), kills))
    for point in points:
        while len(side.answered) < point and not done.is_set():
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        side.node.kill()
        side.kills += 1
        time.sleep(rng.uniform(0, 0.5))
        side.node.start()


def relay_killer(relay, rng, kills, done, stop):
    """Kills a host now and then while messages flow."""
    for _ in range(kills):
        if stop.wait(rng.uniform(0.5, 3)) or done.is_set():
            break
        relay.kill()
        time.sleep(rng.uniform(0, 1))
        relay.start()


def wiped(sides, room, relays):
    """One host comes back without its disk: what is written now goes by the other one."""
    relays[0].kill()
    relays[0].wipe()
    relays[0].start()
    ok("the disk of one host is wiped")
    for side in sides:
        for number in range(10):
            body = f"{side.user} after the wipe {number}"
            path = f"{CLIENT}/rooms/{quote(room)}/send/m.room.message/{side.user}-wiped-{number}"
            side.answered[body] = side.patiently("PUT", path, {"msgtype": "m.text", "body": body})["event_id"]
    everything = {body for side in sides for body in side.answered}
    for side in sides:
        def missing():
            side.sync_once(room)
            return everything - {body for _, body in side.synced}
        until(f"{side.user} sees what was written after the wipe", lambda: not missing(), SETTLE_S)
        ok(f"{side.user} sees what was written after the wipe")


def meet(a, b):
    """Alice's room with Bob in it."""
    body = {"preset": "private_chat", "name": "kill test", "invite": [b.id]}
    room = a.node.must("POST", CLIENT + "/createRoom", body, a.token)["room_id"]
    until("the invite arrives", lambda: room in b.patiently("GET", CLIENT + "/sync?timeout=0").get("rooms", {}).get("invite", {}), 60)
    b.node.must("POST", f"{CLIENT}/join/{quote(room)}", {}, b.token)
    for side in (a, b):
        path = f"{CLIENT}/rooms/{quote(room)}/joined_members"
        until("both are members", lambda: len(side.patiently("GET", path)["joined"]) == 2, 60)
        side.sync_once(room)
    return room


def storm(sides, room, options, rng, relays=()):
    """Both write, both follow, both are killed, all at once. Returns when all has been written and both nodes are up."""
    started, done, workers, followers = time.monotonic(), threading.Event(), [], []
    for side in sides:
        own = random.Random(rng.getrandbits(64))
        workers.append(threading.Thread(target=side.guarded, args=(side.write, room, options.messages)))
        workers.append(threading.Thread(target=side.guarded, args=(killer, side, own, options.kills, options.messages, done)))
        followers.append(threading.Thread(target=side.guarded, args=(side.follow, room, done)))
    stop = threading.Event()
    hosts = [threading.Thread(target=sides[0].guarded, args=(relay_killer, relay, random.Random(rng.getrandbits(64)), options.kills, done, stop))
             for relay in relays]
    for thread in workers + followers + hosts:
        thread.start()
    while any(thread.is_alive() for thread in workers):
        time.sleep(0.05)
        fail_with_the_first(sides, done)
    stop.set()
    for thread in hosts:
        thread.join()
    everything = {body for side in sides for body in side.answered}
    print(f"written after {time.monotonic() - started:.0f} s", flush=True)
    try:
        for side in sides:
            all_synced(side, everything, sides, done)
    finally:
        done.set()
    for thread in followers:
        thread.join()
    fail_with_the_first(sides, done)


def all_synced(side, everything, sides, done):
    def missing():
        fail_with_the_first(sides, done)
        return everything - {body for _, body in side.synced}
    try:
        until(f"{side.user} sees all messages in /sync", lambda: not missing(), SETTLE_S)
    except Failed as late:
        left = missing()
        raise Failed(f"{late}; missing {len(left)} of {len(everything)}: {sorted(left)[:5]}") from None
    ok(f"{side.user} saw all {len(everything)} messages in /sync")


def fail_with_the_first(sides, done):
    for side in sides:
        if side.failure:
            done.set()
            raise side.failure if isinstance(side.failure, Failed) else Failed(f"{side.user}: {side.failure!r}")


def once_each(side, what, found, answered):
    ids, bodies = collections.Counter(i for i, _ in found), collections.Counter(b for _, b in found)
    twice = [b for b, n in bodies.items() if n > 1] + [i for i, n in ids.items() if n > 1]
    missing = [b for b in answered if b not in bodies]
    wrong = [b for i, b in found if answered.get(b) != i]
    if twice or missing or wrong:
        raise Failed(f"{side.user}, {what}: twice {twice[:5]} ({len(twice)}), missing {missing[:5]} ({len(missing)}), "
                     f"other event than answered {wrong[:5]} ({len(wrong)})")
    ok(f"{side.user}: {len(found)} messages exactly once in {what}")


def judge(sides, room):
    answered = {body: event for side in sides for body, event in side.answered.items()}
    for side in sides:
        once_each(side, "/sync", side.synced, answered)
        once_each(side, "/messages", side.timeline(room), answered)
    until("the state is equal", lambda: sides[0].state(room) == sides[1].state(room), 30)
    ok("the state is equal")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--mailboxes", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.messages} messages from each side, {options.kills} kills of each node", flush=True)
    rng, started = random.Random(options.seed), time.monotonic()
    with Run() as run:
        sides = [Side(run.node("one"), "alice"), Side(run.node("two"), "bob")]
        relays = [Relay(f"relay-{n}", run.folder).start() for n in (1, 2)] if options.mailboxes else []
        for side in sides:
            if relays:
                mailboxes(side.node, relays)
        link(*run.nodes)
        run.nodes.extend(relays)
        room = meet(*sides)
        ok("linked, both in the room")
        storm(sides, room, options, rng, relays)
        judge(sides, room)
        if relays:
            wiped(sides, room, relays)
            judge(sides, room)
        for side in sides:
            side.node.stop()
            side.node.cli("check")
            ok(f"{side.user}'s node was killed {side.kills} times, stops in order, and its database is whole")
    print(f"ALL OK kill test, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print("FAIL", failure)
        sys.exit(1)
