"""A Millpond node as a process: start, kill -9, stop in order, and the command line beside it. Standard library only."""
import json, os, re, shutil, signal, socket, subprocess, tempfile, time, urllib.error, urllib.parse, urllib.request

BINARY = os.environ.get("MILLPOND") or os.path.join(
    os.environ.get("CARGO_TARGET_DIR") or os.path.join(os.path.dirname(__file__), "..", "..", "target"), "debug", "millpond")
CLIENT = "/_matrix/client/v3"
START_S = 30  # a debug build on a busy two-core machine; a release build needs a tenth of a second
STOP_S = 5    # what the ordered shutdown promises
LINK_S = 60


class Failed(Exception):
    """What did not hold, in words for the person who reads the run."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, probe, limit_s=60.0, every_s=0.1):
    """Repeats `probe` until it returns something true; that is the result."""
    end = time.monotonic() + limit_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {limit_s:.0f} s")
        time.sleep(every_s)


class Node:
    """One node with a data directory and a port of its own; both stay the same over restarts."""

    def __init__(self, label, folder, *arguments):
        self.arguments, self.wrapper = arguments, []  # of `millpond run`; what runs it, if not the shell
        self.label, self.data = label, os.path.join(folder, label)
        self.port, self.log = free_port(), os.path.join(folder, label + ".log")
        self.url, self.process, self.name = f"http://127.0.0.1:{self.port}", None, None
        os.makedirs(self.data, exist_ok=True)

    def start(self):
        arguments = [*self.wrapper, BINARY, "run", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", "--registration", "open",
                     *os.environ.get("MILLPOND_RUN_ARGS", "").split(), *self.arguments]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(f"{self.label} answers", self._answers, START_S, 0.02)
        return self

    def refuses_to_start(self):
        """What it says instead."""
        done = subprocess.run([BINARY, "run", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", *self.arguments],
                              capture_output=True, text=True, timeout=START_S)
        if done.returncode == 0:
            raise Failed(f"{self.label} ran in spite of {self.arguments}")
        return done.stdout + done.stderr

    def _answers(self):
        if self.process.poll() is not None:
            raise Failed(f"{self.label} ended with {self.process.returncode}; its log: {self.log}")
        try:
            with urllib.request.urlopen(self.url + "/_matrix/client/versions", timeout=2) as r:
                return r.status == 200
        except OSError:
            return False

    def kill(self):
        """kill -9: nothing is flushed, nobody is told."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; the ordered shutdown has STOP_S seconds and ends with 0."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.label} did not stop within {STOP_S} s of SIGTERM; its log: {self.log}") from None
        if code != 0:
            raise Failed(f"{self.label} ended with {code} on SIGTERM; its log: {self.log}")

    def cli(self, *arguments, limit_s=60, said=None):
        """`millpond ARGUMENTS --data-dir ..`, with `said` on its standard input; returns what it printed, fails if it failed."""
        command = [BINARY, *arguments, "--data-dir", self.data]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, input=said)
        if done.returncode != 0:
            raise Failed(f"{self.label}: millpond {' '.join(arguments)[:60]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def call(self, method, path, body=None, token=None, limit_s=60):
        """One client-server request; returns (status, JSON). OSError if the node is not there."""
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = "Bearer " + token
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, method=method, headers=headers, data=data)
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as r:
                return r.status, json.loads(r.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else {}

    def must(self, method, path, body=None, token=None, limit_s=60):
        status, answer = self.call(method, path, body, token, limit_s)
        if status != 200:
            raise Failed(f"{self.label}: {method} {path} answered {status} {answer}")
        return answer

    def register(self, user, password):
        """Creates the account and returns (user id, access token); the node's name is learnt from it."""
        body = {"username": user, "password": password, "auth": {"type": "m.login.dummy"}}
        answer = self.must("POST", CLIENT + "/register", body)
        self.name = answer["user_id"].split(":", 1)[1]
        return answer["user_id"], answer["access_token"]


def link(offerer, answerer, shown=None):
    """Links two nodes as two people would: one shows a link, the other pastes it, the first confirms the name it sees."""
    shown = shown or offerer.cli("contact")
    links = [word for word in re.findall(r"\S+", shown) if re.fullmatch(r"[A-Za-z0-9_:/.#?=+-]{80,}", word)]
    if not links:
        raise Failed(f"{offerer.label}: `millpond contact` printed no link:\n{shown}")
    answerer.cli("contact", "add", links[0])
    until(f"{offerer.label} sees who answered", lambda: answerer.name in offerer.cli("contact", "list"), LINK_S, 0.3)
    offerer.cli("contact", "confirm", answerer.name)
    for here, there in ((offerer, answerer), (answerer, offerer)):
        until(f"{here.label} is linked with {there.label}", lambda: linked(here, there), LINK_S, 0.3)


def linked(here, there):
    lines = [line for line in here.cli("contact", "list").splitlines() if there.name in line]
    return bool(lines) and not any("pending" in line.lower() or "not proven" in line for line in lines)


class Run:
    """The folder and the nodes of one run. Nodes are killed at the end; the folder stays if something failed."""

    def __init__(self):
        self.folder, self.nodes = tempfile.mkdtemp(prefix="millpond-interop-"), []

    def node(self, label, *arguments):
        return self.unstarted(label, *arguments).start()

    def unstarted(self, label, *arguments):
        node = Node(label, self.folder, *arguments)
        self.nodes.append(node)
        return node

    def end(self):
        """Kills what runs."""
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.kill()
        self.nodes.clear()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.end()
        if kind is None:
            shutil.rmtree(self.folder)
        else:
            print("logs and data of the nodes:", self.folder, flush=True)
        return False


def quote(text):
    return urllib.parse.quote(text, safe="")
