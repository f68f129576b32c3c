"""Classic homeservers as processes: Millpond nodes with a DNS name, and Synapse. All on loopback, named `localhost:PORT`, with certificates of one
authority that is made for the run. Standard library and openssl only."""
import json, os, shutil, signal, subprocess, time, urllib.error, urllib.request, uuid

from millpond_node import CLIENT, Failed, Node, Run, free_port, quote, until

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("MILLPOND_INTEROP_CACHE") or os.path.expanduser("~/.cache/millpond-interop")
SYNAPSE_PYTHON = os.path.join(CACHE, "synapse-venv", "bin", "python")
SYNAPSE_START_S = 60


class Authority:
    """A certificate authority of its own: Synapse's usual self-signed certificate is one that strict clients do not take for a server's."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "ca")
        os.makedirs(self.folder, exist_ok=True)
        self.certificate, self.key = self.path("ca.crt"), self.path("ca.key")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-keyout", self.key, "-out", self.certificate,
                      "-subj", "/CN=interop authority")

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, folder):
        """Writes tls.crt and tls.key for `localhost` into a folder."""
        os.makedirs(folder, exist_ok=True)
        key, request, certificate = (os.path.join(folder, name) for name in ("tls.key", "tls.csr", "tls.crt"))
        extensions = self.path("extensions")
        with open(extensions, "w") as file:
            file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", "30",
                      "-out", certificate, "-extfile", extensions)
        return certificate, key

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class ClassicNode(Node):
    """A Millpond node named by the DNS."""

    def __init__(self, label, folder, authority):
        super().__init__(label, folder)
        self.federation_port = free_port()
        self.name = f"localhost:{self.federation_port}"
        certificate, key = authority.issue(os.path.join(folder, label + "-tls"))
        self.arguments = ["--server-name", self.name, "--classic-listen", f"127.0.0.1:{self.federation_port}", "--tls-certificate", certificate,
                          "--tls-key", key, "--allow-networks", "127.0.0.0/8,::1", "--trust-certificates", authority.certificate,
                          "--rate-limits", "false", "--classic-retry", os.environ.get("CLASSIC_RETRY", "5")]


class KeyNamedNode(Node):
    """A Millpond node named by its key, which looks for the names of nodes with a DNS name on loopback."""

    def __init__(self, label, folder, authority):
        super().__init__(label, folder)
        self.arguments = ["--allow-networks", "127.0.0.0/8,::1", "--trust-certificates", authority.certificate, "--rate-limits", "false"]


class Synapse:
    """A Synapse process; start, kill -9 and stop like a node's."""

    call, must, register = Node.call, Node.must, Node.register

    def __init__(self, label, folder, authority):
        self.label, self.folder = label, os.path.join(folder, label)
        self.port, self.federation_port = free_port(), free_port()
        self.url, self.name = f"http://127.0.0.1:{self.port}", f"localhost:{self.federation_port}"
        self.process, self.log = None, os.path.join(self.folder, "hs.log")
        authority.issue(self.folder)

    def start(self):
        script = os.path.join(HERE, "synapse_peer.sh")
        done = subprocess.run(["bash", script, self.folder, str(self.port), str(self.federation_port), SYNAPSE_PYTHON],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SYNAPSE_START_S)
        if done.returncode != 0:
            raise Failed(f"{self.label} did not start; its log: {self.folder}/out.log")
        with open(os.path.join(self.folder, "pid")) as file:
            self.process = Started(int(file.read()))
        return self

    def kill(self):
        self.process.end(signal.SIGKILL)

    def stop(self):
        self.process.end(signal.SIGTERM)


class Started:
    """A process that somebody else started; looks like subprocess's where the run needs it."""

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return 0 if file.read().rsplit(")", 1)[1].split()[0] == "Z" else None
        except FileNotFoundError:
            return 0

    def end(self, how):
        if self.poll() is None:
            os.kill(self.pid, how)
        until(f"process {self.pid} ends", lambda: self.poll() is not None, 20, 0.05)


class ClassicRun(Run):
    """A run with its authority."""

    def __init__(self):
        super().__init__()
        self.authority = Authority(self.folder)

    def millpond(self, label="millpond"):
        return self._started(ClassicNode(label, self.folder, self.authority))

    def key_named(self, label="key-named"):
        return self._started(KeyNamedNode(label, self.folder, self.authority))

    def synapse(self, label="synapse"):
        return self._started(Synapse(label, self.folder, self.authority))

    def _started(self, server):
        self.nodes.append(server)
        return server.start()


class User:
    """A user with a device, by plain client-server requests."""

    def __init__(self, server, name, password):
        self.server, self.since, self.ephemeral, self.presence = server, None, {}, {}
        self.invites, self.left, self.joined = set(), set(), set()
        self.id, self.token = server.register(name, password)

    def call(self, method, path, body=None, limit_s=60):
        return self.server.call(method, path, body, self.token, limit_s)

    def must(self, method, path, body=None, limit_s=60):
        return self.server.must(method, path, body, self.token, limit_s)

    def create(self, **body):
        return self.must("POST", CLIENT + "/createRoom", body)["room_id"]

    def in_room(self, room, path):
        return f"{CLIENT}/rooms/{quote(room)}{path}"

    def invite(self, room, user):
        self.must("POST", self.in_room(room, "/invite"), {"user_id": user.id})

    def join(self, room, via=None):
        path = f"{CLIENT}/join/{quote(room)}" + (f"?server_name={quote(via)}&via={quote(via)}" if via else "")
        return self.must("POST", path, {})["room_id"]

    def try_join(self, room, via):
        return self.call("POST", f"{CLIENT}/join/{quote(room)}?server_name={quote(via)}&via={quote(via)}", {})

    def knock(self, room, via):
        self.must("POST", f"{CLIENT}/knock/{quote(room)}?server_name={quote(via)}&via={quote(via)}", {})

    def leave(self, room):
        self.must("POST", self.in_room(room, "/leave"), {})

    def ban(self, room, user):
        self.must("POST", self.in_room(room, "/ban"), {"user_id": user.id})

    def say(self, room, text, **more):
        return self.send(room, "m.room.message", {"msgtype": "m.text", "body": text, **more})

    def send(self, room, kind, content):
        return self.must("PUT", self.in_room(room, f"/send/{kind}/{uuid.uuid4()}"), content)["event_id"]

    def set(self, room, kind, content, key=""):
        return self.must("PUT", self.in_room(room, f"/state/{kind}/{quote(key)}"), content)["event_id"]

    def state(self, room):
        return self.must("GET", self.in_room(room, "/state"))

    def state_ids(self, room):
        """Sorted, for comparison between servers."""
        return sorted(event["event_id"] for event in self.state(room))

    def membership(self, room, user):
        status, content = self.call("GET", self.in_room(room, f"/state/m.room.member/{quote(user.id)}"))
        return content.get("membership") if status == 200 else None

    def messages(self, room, limit=100, token=None):
        path = self.in_room(room, f"/messages?dir=b&limit={limit}") + (f"&from={quote(token)}" if token else "")
        status, answer = self.call("GET", path)
        return answer if status == 200 else {"chunk": []}

    def texts(self, room, limit=100):
        return [event["content"].get("body") for event in self.messages(room, limit)["chunk"] if event["type"] == "m.room.message"]

    def event(self, room, event_id):
        status, event = self.call("GET", self.in_room(room, f"/event/{quote(event_id)}"))
        return event if status == 200 else None

    def reads(self, room, text, limit_s=30):
        until(f"{self.id} reads {text!r}", lambda: text in self.texts(room), limit_s)

    def sync(self):
        """Takes what is new; `invites` and `ephemeral` hold what came so far. Without a token a server may answer from its cache."""
        since = f"&since={quote(self.since)}" if self.since else ""
        answer = self.must("GET", f"{CLIENT}/sync?timeout=0{since}")
        self.since = answer["next_batch"]
        for event in answer.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        rooms = answer.get("rooms", {})
        # A room may have been left and be shown as an invite in one answer.
        for section, here in (("leave", self.left), ("invite", self.invites), ("join", self.joined)):
            for room in rooms.get(section, {}):
                for elsewhere in (self.left, self.invites, self.joined):
                    elsewhere.discard(room)
                here.add(room)
        for room, joined in rooms.get("join", {}).items():
            self.ephemeral.setdefault(room, []).extend(joined.get("ephemeral", {}).get("events", []))
        return self

    def invited_to(self, room, limit_s=30):
        until(f"{self.id} is invited", lambda: room in self.sync().invites, limit_s)

    def out_of(self, room, limit_s=30):
        until(f"{self.id} is out of the room", lambda: room in self.sync().left, limit_s)

    def sees(self, room, user, membership, limit_s=30):
        until(f"{self.id} sees {user.id} {membership}", lambda: self.membership(room, user) == membership, limit_s)


def download(user, uri):
    request = urllib.request.Request(f"{user.server.url}/_matrix/client/v1/media/download/{uri[6:]}", headers={"authorization": "Bearer " + user.token})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def upload(user, content, kind="application/octet-stream"):
    request = urllib.request.Request(f"{user.server.url}/_matrix/media/v3/upload?filename=x", data=content, method="POST",
                                     headers={"authorization": "Bearer " + user.token, "content-type": kind})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())["content_uri"]
