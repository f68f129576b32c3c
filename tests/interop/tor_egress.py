#!/usr/bin/env python3
"""What leaves a node in Tor mode: strace follows two nodes and a mailbox host through mailboxes, a link, messages, a file from one node to the other, a
URL preview, a push, a kill -9, a restart in order and an outage of the Tor network. They may connect to the relays of the private Tor network and to
127.0.0.1, and to nothing else; they may look up no name. $MILLPOND_LEAKING (examples/leaking beside the binary) is a build that forgets its settings of
Tor: the same watch must find what it does. Needs Debian's tor and strace."""
import asyncio, http.server, json, os, re, shutil, sys, threading, time, urllib.parse, uuid

import millpond_node
from millpond_node import CLIENT, Failed, Run, link, until
from nio_people import Person, ok
from relay_host import Relay, mailboxes, status
from tor_net import BACK_S, TorNet

PASSWORD = "egress-" + uuid.uuid4().hex
ELSEWHERE = "127.77.0.1"  # a web server that is neither 127.0.0.1 nor a relay: only an exit may connect to it
NAME = "no-such-name.invalid"
PAGE = b"<html><head><title>seen through an exit</title></head></html>"
LEAKING = os.environ.get("MILLPOND_LEAKING") or os.path.join(os.path.dirname(millpond_node.BINARY), "examples", "leaking")
RELAY = re.compile(r"127\.\d+\.0\.1:15000")


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


def web():
    server = http.server.ThreadingHTTPServer((ELSEWHERE, 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def watched(node, trace):
    """The node's own process is the one that is started: strace follows it as a grandchild."""
    node.wrapper = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg,bind", "-e", "signal=none", "-o", trace]
    return node


def destinations(trace):
    """Every address that the process bound, connected or sent to, as (call, "address:port")."""
    found = []
    for line in open(trace, errors="replace"):
        call = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)", line)
        if not call:
            continue
        for port, address in re.findall(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([\d.]+)"\)', line):
            found.append((call.group(1), f"{address}:{port}"))
        for port, address in re.findall(r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"', line):
            found.append((call.group(1), f"[{address}]:{port}"))
        # Without nscd each look-up of the user's own name knocks at its door in vain.
        if "resolve" in line or "nscd" in line and "ENOENT" not in line:
            found.append((call.group(1), "the system's name service"))
    return found


def forbidden(trace):
    def allowed(call, to):
        if call == "bind":
            return re.fullmatch(r"127\.0\.0\.1:\d+", to)
        return RELAY.fullmatch(to) or (re.fullmatch(r"127\.0\.0\.1:\d+", to) and not to.endswith(":53"))
    return sorted({f"{call} {to}" for call, to in destinations(trace) if not allowed(call, to)})


def preview(node, token, url):
    return node.call("GET", "/_matrix/client/v1/media/preview_url?url=" + urllib.parse.quote(url, safe=""), token=token, limit_s=120)


async def whole_run(run, net, port):
    traces = []

    def start(process):
        traces.append(os.path.join(run.folder, f"trace-{len(traces)}"))
        return watched(process, traces[-1]).start()
    relay = Relay("relay", run.folder, "--tor", "only")
    run.nodes.append(relay)
    start(relay)
    one = start(run.unstarted("one", "--tor", "only", "--url-previews", "true", "--allow-networks", ELSEWHERE))
    # Not told to: that its mailbox is at an onion service is enough.
    two = start(run.unstarted("two"))
    _, token = one.register("alice", PASSWORD)
    two.register("bob", PASSWORD)
    for node in (one, two):
        until("a mailbox", lambda: has_mailbox(node, relay), 90, 1)
    alice = await Person(one.url, "alice", PASSWORD, "Alice").login()
    bob = await Person(two.url, "bob", PASSWORD, "Bob").login()
    link(one, two)
    room = await alice.create("a watched room", [bob], encrypted=True)
    await bob.accept(room)
    await alice.knows_devices([bob])
    await bob.knows_devices([alice])
    await alice.say(room, "watched")
    await bob.reads(room, "watched")
    await bob.say(room, "and back")
    await alice.reads(room, "and back")
    file = os.urandom(300_000)
    uri = await alice.upload(file)
    begin = time.monotonic()
    await bob.downloads(uri, file, within_s=120)
    print(f"   300 kB from one node to the other: {time.monotonic() - begin:.1f} s", flush=True)
    code, answer = preview(one, token, f"http://{ELSEWHERE}:{port}/")
    ok("a page is previewed, through an exit", code == 200 and answer.get("og:title") == "seen through an exit", (code, answer))
    code, answer = preview(one, token, f"http://{NAME}/")
    ok("a name that is not there is an error and no look-up", code != 200, (code, answer))
    # Whatever the gateway says, the node must not go there itself.
    one.call("POST", CLIENT + "/pushers/set", {"kind": "http", "app_id": "egress", "pushkey": "x", "app_display_name": "e", "device_display_name": "e",
             "lang": "en", "data": {"url": f"https://{ELSEWHERE}:{port}/_matrix/push/v1/notify", "format": "event_id_only"}}, token)
    await bob.say(room, "to be pushed")
    await alice.reads(room, "to be pushed")
    one.kill()
    await bob.say(room, "while one is dead")
    start(one)
    await alice.reads(room, "while one is dead")
    for node in (one, two):
        node.stop()
        start(node)
    await alice.say(room, "after a restart in order")
    await bob.reads(room, "after a restart in order")
    net.stop()
    await alice.say(room, "into the dark")
    code, answer = preview(one, token, f"http://{ELSEWHERE}:{port}/dark")
    ok("without Tor there is no preview", code != 200, (code, answer))
    until("the node says that Tor is down", lambda: (status(one)["tor"] or {})["state"] == "down", 60, 0.5)
    await asyncio.sleep(10)
    net.start()
    await bob.until("reads what was said into the dark", lambda: (room, "into the dark") in bob.bodies, BACK_S)
    await alice.close()
    await bob.close()
    for node in (one, two, relay):
        node.stop()
    for path in traces:
        seen = [to for call, to in destinations(path) if call != "bind"]
        ok(f"{os.path.basename(path)}: the watch saw the Tor network", any(RELAY.fullmatch(to) for to in seen), seen[:20])
        ok("nothing went anywhere else, and no name was looked up", not forbidden(path), forbidden(path))


def has_mailbox(node, relay):
    try:
        mailboxes(node, [relay])
        return True
    except Failed:
        return False


async def leaking(run, port):
    """The same watch over a build that leaks: if it finds nothing, it would find nothing else either."""
    trace = os.path.join(run.folder, "trace-leak")
    before, millpond_node.BINARY = millpond_node.BINARY, LEAKING
    node = watched(millpond_node.Node("leaking", run.folder, "--tor", "only", "--url-previews", "true", "--allow-networks", ELSEWHERE), trace)
    run.nodes.append(node)
    node.start()
    _, token = node.register("eve", PASSWORD)
    preview(node, token, f"http://{ELSEWHERE}:{port}/")
    preview(node, token, f"http://{NAME}/")
    node.stop()
    millpond_node.BINARY = before
    found = forbidden(trace)
    ok("a deliberate connection is found", any(ELSEWHERE in what for what in found), found)
    ok("a deliberate look-up is found", any(what.endswith(":53") or "name service" in what for what in found), found)
    run.nodes.remove(node)


async def main():
    for needed in ("tor", "strace"):
        if not shutil.which(needed):
            raise Failed(f"{needed} is needed: apt-get install {needed}")
    if not os.access(LEAKING, os.X_OK):
        raise Failed(f"{LEAKING} is needed, to see that the watch finds a leak: cargo build -p millpond --example leaking")
    with Run() as run:
        net, port = TorNet(run.folder), web()
        try:
            net.start()
            await leaking(run, port)
            await whole_run(run, net, port)
        finally:
            run.end()
            net.end()
    print("ALL OK nothing left but through Tor")


try:
    asyncio.run(main())
except Failed as failure:
    print("FAIL", failure)
    sys.exit(1)
