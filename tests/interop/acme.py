#!/usr/bin/env python3
"""A node that gets its TLS certificate from an ACME server, Let's Encrypt's test server Pebble (Debian package `pebble`): the first certificate, and the
next one in time, without a restart. Standard library, openssl and pebble only."""
import json, os, re, socket, subprocess, sys

from classic_nodes import Authority
from millpond_node import Failed, Node, Run, free_port, until

NAME = "pond.example"
LIFE_S = 60   # of a certificate: renewed after 40, and the door looks at its files every 30


def ok(what):
    print("ok", what, flush=True)


class Pebble:
    """Pebble, and the DNS server beside it for which every name is on loopback."""

    def __init__(self, folder, authority, door):
        self.port, dns, certificate = free_port(), free_port(), authority.issue(os.path.join(folder, "pebble"))
        settings = {"pebble": {"listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{free_port()}",
                               "certificate": certificate[0], "privateKey": certificate[1], "httpPort": free_port(), "tlsPort": door,
                               "ocspResponderURL": "", "externalAccountBindingRequired": False, "certificateValidityPeriod": LIFE_S,
                               "profiles": {"default": {"description": "short", "validityPeriod": LIFE_S}}}}
        path = os.path.join(folder, "pebble.json")
        with open(path, "w") as file:
            json.dump(settings, file)
        self.log = open(os.path.join(folder, "pebble.log"), "wb")
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        self.processes = [
            subprocess.Popen(["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{dns}",
                              "-management", f"127.0.0.1:{free_port()}", "-http01", "", "-https01", "", "-tlsalpn01", ""],
                             stdout=self.log, stderr=self.log),
            subprocess.Popen(["pebble", "-config", path, "-dnsserver", f"127.0.0.1:{dns}"], stdout=self.log, stderr=self.log, env=environment)]
        until("Pebble listens", self._listens, 20, 0.1)

    def _listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.log.close()


def shown(port):
    """Who issued the certificate at a port, its names, its serial number."""
    asked = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", NAME], input=b"", capture_output=True)
    if b"BEGIN CERTIFICATE" not in asked.stdout:
        return "", "", ""
    read = subprocess.run(["openssl", "x509", "-noout", "-issuer", "-serial", "-ext", "subjectAltName"], input=asked.stdout, capture_output=True)
    text = read.stdout.decode()
    found = lambda pattern: (re.search(pattern, text) or [None, ""])[1]
    return found(r"issuer=(.*)"), found(r"DNS:(\S+)"), found(r"serial=(\S+)")


def main():
    with Run() as run:
        authority, door, federation = Authority(run.folder), free_port(), free_port()
        pebble = Pebble(run.folder, authority, door)
        try:
            node = Node("acme", run.folder)
            run.nodes.append(node)
            os.environ["MILLPOND_RUN_ARGS"] = " ".join([
                "--server-name", NAME, "--classic-listen", f"127.0.0.1:{federation}", "--acme", "true", "--acme-listen", f"127.0.0.1:{door}",
                "--acme-directory", f"https://localhost:{pebble.port}/dir", "--acme-contact", "somebody@pond.example",
                "--allow-networks", "127.0.0.0/8,::1", "--trust-certificates", authority.certificate])
            node.start()
            until("the door has a certificate of Pebble", lambda: "Pebble" in shown(federation)[0], 60, 0.5)
            issuer, name, first = shown(federation)
            if name != NAME:
                raise Failed(f"the certificate is for {name}")
            ok(f"a certificate for {name} by {issuer}")
            for kept in ("account.json", "key.pem", "certificate.pem"):
                mode = os.stat(os.path.join(node.data, "acme", kept)).st_mode & 0o777
                if mode != 0o600:
                    raise Failed(f"{kept} has the mode {mode:o}")
            until("the certificate is renewed", lambda: shown(federation)[2] not in ("", first), 3 * LIFE_S, 1)
            ok("renewed in time, without a restart")
            _, _, second = shown(federation)
            node.stop()
            node.start()
            until("the door opens again", lambda: shown(federation)[2], 30, 0.2)
            if shown(federation)[2] == first:
                raise Failed("after a restart the door shows an old certificate")
            ok("kept over a restart")
            node.stop()
        finally:
            pebble.end()
    print("ALL OK acme")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL {failure}")
