"""A private Tor network for a test (tornet.py), and a C tor client in it that knocks at onion services as a stranger. Standard library only."""
import json, os, re, shutil, socket, struct, subprocess, sys, time, urllib.request

from millpond_node import Failed, free_port, until

TORNET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tornet.py")
STABLE = 5  # of which an entry is none, and an onion service needs four more for its second hops (vanguards)
BRIDGE_PORT, OBFS4_PORT = 15000, 16000
NOT_FOUND = 0xF0     # C tor's word for a service without a descriptor
ASKS_FOR_KEY = 0xF4  # C tor's word for a service that shows itself to those with a key only
BACK_S = 240.0  # after an outage: arti leaves an entry that did not answer alone for 30 to 90 s, then for longer, and four processes wait for theirs
ENOUGH = 6  # relays of eight: two entries, and three hops on either side that are no entry
# For the nodes: a dial to an exit at 127.x.x.x is allowed, and the folders of tests may belong to anybody.
EXTRA = """
[address_filter]
allow_local_addrs = true
[storage.permissions]
dangerously_trust_everyone = true
"""


class TorNet:
    """Eight relays on loopback. `start` after `stop` gives the same network again, with the same keys."""

    def __init__(self, folder):
        self.folder, self.client, self.others = os.path.join(folder, "tornet"), None, []
        self.config = os.path.join(folder, "tor-network.toml")

    def _run(self, verb):
        done = subprocess.run([sys.executable, TORNET, verb, "--dir", self.folder], capture_output=True, text=True, timeout=150)
        if done.returncode != 0:
            raise Failed(f"tornet {verb}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        if not shutil.which("tor"):
            raise Failed("Debian's tor is needed: apt-get install tor")
        for last in (False, False, True):
            self._run("start")
            try:
                self._usable()
                break
            except Failed:
                # By chance the first votes saw too few relays; they count uptimes by it for minutes. From the beginning, then.
                if last:
                    raise
                self._run("stop")
        with open(self.config, "w") as file:
            file.write(self._run("config") + EXTRA)
        os.environ["MILLPOND_TOR_TEST_NETWORK"] = self.config
        return self

    def _usable(self):
        """Waits for a consensus to build circuits by. On a busy machine some relays lack a flag for minutes; tornet.py's own `wait` asks for all."""
        with open(os.path.join(self.folder, "net.json")) as file:
            authorities = [node["ip"] for node in json.load(file) if node["auth"]]
        needed = {"Running", "Valid", "Fast", "Guard", "HSDir"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def good(ip):
            try:
                text = opener.open(f"http://{ip}:17000/tor/status-vote/current/consensus-microdesc", timeout=2).read().decode()
            except OSError:
                return False
            flags = [set(line.split()[1:]) for line in text.splitlines() if line.startswith("s ")]
            stable = sum("Stable" in each for each in flags)
            return "bandwidth-weights" in text and sum(needed <= each for each in flags) >= ENOUGH and stable >= STABLE
        until("the authorities agree on enough relays", lambda: all(good(ip) for ip in authorities), 45, 0.25)

    def stop(self):
        self._run("stop")

    def end(self):
        self.stop()
        for process in [self.client, *self.others]:
            if process:
                process.terminate()
                process.wait()
        self.client, self.others = None, []

    def bridge(self):
        """A bridge that also speaks obfs4: the two lines by which a node gets into the network through it, and its address."""
        ip, data = "127.51.0.1", os.path.join(self.folder, "bridge")
        os.makedirs(data, mode=0o700, exist_ok=True)
        torrc, log, state = (os.path.join(data, name) for name in ("torrc", "tor.log", "pt_state/obfs4_bridgeline.txt"))
        with open(torrc, "w") as file:
            file.write(self._run("client-torrc") + f"""DataDirectory {data}
SocksPort 0
Nickname bridge
Address {ip}
ORPort {ip}:{BRIDGE_PORT}
OutboundBindAddress {ip}
BridgeRelay 1
BridgeDistribution none
PublishServerDescriptor 0
AssumeReachable 1
PathsNeededToBuildCircuits 0.25
ServerTransportPlugin obfs4 exec {shutil.which("obfs4proxy")}
ServerTransportListenAddr obfs4 {ip}:{OBFS4_PORT}
ExtORPort auto
Log notice file {log}
""")
        self.others.append(subprocess.Popen(["tor", "-f", torrc, "--defaults-torrc", "/nonexistent", "--quiet"]))
        until("the bridge is up", lambda: os.path.exists(log) and "Bootstrapped 100%" in open(log).read() and os.path.exists(state), 60, 0.2)
        with open(os.path.join(data, "fingerprint")) as file:
            fingerprint = file.read().split()[1]
        with open(state) as file:
            arguments = re.search(r"cert=\S+ iat-mode=\d", file.read()).group(0)
        return f"{ip}:{BRIDGE_PORT} {fingerprint}", f"obfs4 {ip}:{OBFS4_PORT} {fingerprint} {arguments}", ip

    def relay_logs(self):
        nodes = os.path.join(self.folder, "nodes")
        return {name: os.path.join(nodes, name, "tor.log") for name in sorted(os.listdir(nodes))}

    def socks(self):
        """The SOCKS port of a C tor client; another call starts it anew, with all that it knew forgotten."""
        if self.client:
            self.client.terminate()
            self.client.wait()
            shutil.rmtree(os.path.join(self.folder, "client"))
        self.port = free_port()
        data = os.path.join(self.folder, "client")
        os.makedirs(data, mode=0o700, exist_ok=True)
        torrc = os.path.join(data, "torrc")
        with open(torrc, "w") as file:
            file.write(self._run("client-torrc"))
            file.write(f"DataDirectory {data}\nSocksPort 127.0.0.1:{self.port} ExtendedErrors\nLog notice file {data}/tor.log\n")
        self.client = subprocess.Popen(["tor", "-f", torrc, "--defaults-torrc", "/nonexistent", "--quiet"])
        log = os.path.join(data, "tor.log")
        until("C tor's client is up", lambda: os.path.exists(log) and "Bootstrapped 100%" in open(log).read(), 60, 0.2)
        return self.port

    def knock(self, onion, port, sent, limit_s=60.0):
        """A stranger's stream through C tor: how many bytes came back before it was closed, and after how long."""
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=limit_s) as stream:
            stream.sendall(b"\x05\x01\x00")
            if stream.recv(2) != b"\x05\x00":
                raise Failed("C tor does not speak SOCKS5")
            stream.sendall(b"\x05\x01\x00\x03" + bytes([len(onion)]) + onion.encode() + struct.pack(">H", port))
            answer = stream.recv(10)
            if answer[1] != 0:
                return None, answer[1]
            opened = time.monotonic()
            if sent:
                stream.sendall(sent)
            received = b""
            try:
                while True:
                    some = stream.recv(4096)
                    if not some:
                        break
                    received += some
            except ConnectionResetError:
                pass
            return len(received), time.monotonic() - opened


def onion_of(text):
    """The onion service in a text with a multiaddr."""
    found = re.search(r"/onion3/([a-z2-7]{56}):(\d+)", text)
    if not found:
        raise Failed(f"no onion address in {text!r}")
    return found.group(1) + ".onion", int(found.group(2))


def connections(process):
    """Where a process has TCP connections to, as addresses."""
    sockets = set()
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{process.pid}/fd/{fd}"))
        except OSError:
            continue
        if found:
            sockets.add(found.group(1))
    remote = set()
    with open("/proc/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if fields[9] in sockets and fields[3] == "01":
                remote.add(socket.inet_ntoa(struct.pack("<I", int(fields[2].split(":")[0], 16))))
    return remote


def cpu_s(process):
    """Processor time of a process so far, in seconds."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(process):
    return memory_mb(process)[0]


def memory_mb(process):
    """What of a process is in memory: all of it, and without the pages of files, such as its binary."""
    with open(f"/proc/{process.pid}/status") as file:
        text = file.read()
    return tuple(int(re.search(name + r":\s+(\d+) kB", text).group(1)) / 1024 for name in ("VmRSS", "RssAnon"))
