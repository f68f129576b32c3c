#!/usr/bin/env bash
# Drives unmodified third-party clients against the node binary; README.md says what each suite is.
# usage: run.sh [nio|js|rust-sdk|two|three|kill|mailbox|restore|hosting|killmail|nat|tor|egress|demo|synapse|sydent|acme]...        without arguments: all but nat (README.md says why)
# Environment: MILLPOND (the binary), MILLPOND_INTEROP_CACHE (where clients are installed, once), KILL_ARGS (for kill_test.py), INTEROP_RETRIES (how
# often a suite that failed is tried again, 0: third-party clients have time-outs that a busy machine can meet; each failure is printed).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MILLPOND_INTEROP_CACHE:-$HOME/.cache/millpond-interop}
export MILLPOND=${MILLPOND:-${CARGO_TARGET_DIR:-$root/target}/debug/millpond}
export PYTHONDONTWRITEBYTECODE=1
python=$cache/venv/bin/python
password=interop-$RANDOM$RANDOM
passed=0 failed=0 node_pid= folder=

install_python() {
    [ ! -f "$cache/venv/installed" ] || return 0
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv"
    "$python" -m pip install --quiet 'matrix-nio[e2e]'
    touch "$cache/venv/installed"
}

install_js() {
    [ ! -f "$cache/js/installed" ] || return 0
    mkdir -p "$cache/js"
    (cd "$cache/js" && npm install --silent --no-audit --no-fund matrix-js-sdk@43)
    touch "$cache/js/installed"
}

install_synapse() {
    [ ! -f "$cache/synapse-venv/installed" ] || return 0
    rm -rf "$cache/synapse-venv"
    python3 -m venv "$cache/synapse-venv"
    "$cache/synapse-venv/bin/python" -m pip install --quiet matrix-synapse
    touch "$cache/synapse-venv/installed"
}

install_sydent() {
    [ ! -f "$cache/sydent-venv/installed" ] || return 0
    rm -rf "$cache/sydent-venv"
    python3 -m venv "$cache/sydent-venv"
    "$cache/sydent-venv/bin/python" -m pip install --quiet matrix-sydent==2.6.1 prometheus_client
    touch "$cache/sydent-venv/installed"
}

# Debian's packages for a suite: `need COMMAND PACKAGE`. As another user than root one installs them oneself. Without lists of packages the first attempt fails.
need() {
    ! command -v "$1" >/dev/null || return 0
    [ "$(id -u)" = 0 ] || { echo "please install: $2"; return 1; }
    apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1 || { apt-get update -qq; apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# One fresh node with open registration; sets HOMESERVER_URL for the clients.
start_node() {
    folder=$(mktemp -d -t millpond-interop-XXXXXX)
    local port
    port=$(free_port)
    export HOMESERVER_URL=http://127.0.0.1:$port
    "$MILLPOND" run --data-dir "$folder/node" --listen "127.0.0.1:$port" --registration open >"$folder/log" 2>&1 &
    node_pid=$!
    for _ in $(seq 300); do
        curl --silent --fail --output /dev/null "$HOMESERVER_URL/_matrix/client/versions" && return
        kill -0 "$node_pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "the node did not start"
    return 1
}

stop_node() {
    local code=0
    kill "$node_pid"
    wait "$node_pid" || code=$?
    node_pid=
    if [ $code != 0 ]; then
        echo "the node ended with $code on SIGTERM"
        return 1
    fi
}

# A client against one node of its own, which must also end in order.
one_node() {
    trap end_node EXIT
    start_node
    REGISTER=1 MATRIX_USER=smoke USER=smoke PASSWORD=$password "$@"
    stop_node
    rm -rf "$folder"
    folder=
}

# Whatever happened, no node stays; after a failure its log is shown and its data stays.
end_node() {
    [ -z "$node_pid" ] || kill -9 "$node_pid" 2>/dev/null || true
    [ -z "$folder" ] || { echo "the node's log ($folder) ends with:"; tail -n 20 "$folder/log"; }
}

suite_nio() { install_python; one_node "$python" "$here/nio_smoke.py"; }
suite_js() { install_js; cd "$cache/js"; one_node node "$here/js_smoke.mjs"; }
# Built from a copy: under a member of the workspace Cargo refuses a package that is not one. Cold it takes some minutes.
suite_rust-sdk() {
    mkdir -p "$cache/rust_sdk_source"
    # With their times, so that what has not changed is not built again.
    cp -a "$here/rust_sdk/." "$cache/rust_sdk_source"
    (cd "$cache/rust_sdk_source" && CARGO_TARGET_DIR=$cache/rust_sdk nice -n 10 cargo build --quiet --locked)
    one_node "$cache/rust_sdk/debug/rust-sdk-suite"
}
suite_two() { install_python; "$python" "$here/two_nodes.py"; }
suite_three() { install_python; "$python" "$here/three_nodes.py"; }
suite_kill() { python3 "$here/kill_test.py" ${KILL_ARGS:-}; }
suite_mailbox() {
    install_python
    "$python" "$here/mailbox_nodes.py"
}
suite_restore() { python3 "$here/restore_nodes.py"; }
suite_hosting() { python3 "$here/hosting_nodes.py"; }
suite_killmail() { python3 "$here/kill_test.py" --mailboxes --messages 60 --kills 2; }
suite_nat() {
    need iptables iptables
    python3 "$here/nat_test.py"
}
suite_acme() {
    need pebble pebble
    python3 "$here/acme.py"
}
suite_tor() {
    need tor tor
    need obfs4proxy obfs4proxy
    install_python
    "$python" "$here/tor_nodes.py" ${TOR_PARTS:-}
}
suite_egress() {
    need tor tor
    need strace strace
    install_python
    "$python" "$here/tor_egress.py"
}
suite_sydent() {
    install_sydent
    SYDENT_PYTHON=$cache/sydent-venv/bin/python python3 "$here/sydent.py"
}
suite_demo() { timeout 40 "$MILLPOND" demo; }
suite_synapse() { install_python; install_synapse; "$python" "$here/federation_pair.py"; "$python" "$here/with_synapse.py"; }

[ -x "$MILLPOND" ] || { echo "no binary at $MILLPOND: build it with 'cargo build -p millpond', or set MILLPOND"; exit 1; }
[ $# -gt 0 ] || set -- nio js rust-sdk two three kill mailbox restore hosting killmail tor egress demo synapse sydent acme
for name in "$@"; do
    declare -F "suite_$name" >/dev/null || { echo "unknown suite '$name': nio, js, rust-sdk, two, three, kill, mailbox, restore, hosting, killmail, nat, tor, egress, demo, synapse, sydent or acme"; exit 2; }
    echo "== interop: $name"
    begin=$SECONDS
    for ((left = ${INTEROP_RETRIES:-0}; ; left--)); do
        # A suite runs in a shell of its own that ends at its first error; as a condition of `if` it would not.
        set +e
        (set -e; "suite_$name")
        result=$?
        set -e
        [ $result != 0 ] && [ $left -gt 0 ] || break
        echo "== interop: $name FAILED, and is tried again"
    done
    if [ $result = 0 ]; then passed=$((passed + 1)) verdict=passed; else failed=$((failed + 1)) verdict=FAILED; fi
    echo "== interop: $name $verdict, $((SECONDS - begin)) s"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
