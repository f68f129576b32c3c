"""A private Tor network for a test (tornet.py), and a C tor client in it that knocks at onion services as a stranger. Standard library only."""
import json, os, re, shutil, socket, struct, subprocess, sys, time, urllib.request

from millpond_node import Failed, free_port, until

TORNET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tornet.py")
STABLE = 4
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
        self.folder, self.client = os.path.join(folder, "tornet"), None
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
        if self.client:
            self.client.terminate()
            self.client.wait()
            self.client = None

    def relay_logs(self):
        nodes = os.path.join(self.folder, "nodes")
        return {name: os.path.join(nodes, name, "tor.log") for name in sorted(os.listdir(nodes))}

    def socks(self):
        """The SOCKS port of a C tor client."""
        self.port = free_port()
        data = os.path.join(self.folder, "client")
        os.makedirs(data, mode=0o700, exist_ok=True)
        torrc = os.path.join(data, "torrc")
        with open(torrc, "w") as file:
            file.write(self._run("client-torrc"))
            file.write(f"DataDirectory {data}\nSocksPort 127.0.0.1:{self.port}\nLog notice file {data}/tor.log\n")
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


def cpu_s(process):
    """Processor time of a process so far, in seconds."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(process):
    with open(f"/proc/{process.pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) / 1024
