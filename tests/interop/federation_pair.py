#!/usr/bin/env python3
"""federation_smoke.py (an unmodified copy) between a Millpond node and a Synapse: each side creates a room of versions 10, 11 and 12."""
import os, subprocess, sys, uuid

from classic_nodes import HERE, ClassicRun
from millpond_node import Failed


def main():
    with ClassicRun() as run:
        millpond, synapse = run.millpond(), run.synapse()
        for first, second in ((millpond, synapse), (synapse, millpond)):
            for version in ("10", "11", "12"):
                user = "smoke-" + uuid.uuid4().hex[:8]
                settings = {"HOMESERVER_URL": first.url, "HOMESERVER_URL2": second.url, "ROOM_VERSION": version, "REGISTER": "1",
                            "USER": user, "MATRIX_USER": user, "PASSWORD": "smoke-" + uuid.uuid4().hex}
                print(f"-- {first.label} creates version {version}", flush=True)
                done = subprocess.run([sys.executable, os.path.join(HERE, "federation_smoke.py")], env={**os.environ, **settings}, timeout=120)
                if done.returncode != 0:
                    raise Failed(f"federation_smoke.py with {first.label} first, room version {version}")
    print("ALL OK federation pair")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL {failure}")
