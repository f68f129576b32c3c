#!/usr/bin/env bash
# Measures a release build of Millpond beside Synapse in one sitting with csload, and writes the table that docs/benchmarks.md holds.
# usage: bench.sh [--quick] [OUT_DIR]      OUT_DIR (default target/bench) gets millpond.json, synapse.json and table.md
# Nothing else may run on the machine meanwhile: the row "others' CPU" tells. MILLPOND_RUN_ARGS are added to `millpond run`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MILLPOND_INTEROP_CACHE:-$HOME/.cache/millpond-interop}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
quick=()
if [ "${1:-}" = --quick ]; then quick=(--quick); shift; fi
out=${1:-$CARGO_TARGET_DIR/bench}
work=$(mktemp -d -t millpond-bench-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# What the disk does where the servers keep their data: durable rows mean nothing without it. 4 KiB written and synced 500 times;
# 10 MB written and synced as a media upload is, five times.
disk_probe() {
    python3 - "$work/probe" <<'PY'
import os, statistics, sys, time
def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
def small():
    os.pwrite(file, os.urandom(4096), 0)
    os.fdatasync(file)
times = sorted(seconds(small) * 1000 for _ in range(500))
os.close(file)
data = os.urandom(10_000_000)
def large():
    os.unlink(sys.argv[1])
    file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
    for at in range(0, len(data), 1 << 18):
        os.write(file, data[at:at + (1 << 18)])
    os.fsync(file)
    os.close(file)
rates = [10 / seconds(large) for _ in range(5)]
print(f"disk: 4 KiB synced, p50 {times[250]:.2f} ms, p99 {times[495]:.2f} ms; 10 MB synced, median {statistics.median(rates):.0f} MB/s")
PY
}

build() {
    (cd "$root" && cargo build --release --locked -p millpond)
    # Built from a copy: under a member of the workspace Cargo refuses a package that is not one.
    mkdir -p "$cache/csload"
    cp -r "$here/csload/." "$cache/csload"
    (cd "$cache/csload" && CARGO_TARGET_DIR=$cache/csload-target cargo build --release)
    if [ ! -f "$cache/synapse-venv/installed" ]; then
        python3 -m venv "$cache/synapse-venv"
        "$cache/synapse-venv/bin/python" -m pip install --quiet matrix-synapse
        touch "$cache/synapse-venv/installed"
    fi
}

csload() { "$cache/csload-target/release/csload" "$@"; }

# Lets synapse_peer.sh write keys and configuration, then takes the database away: the measured start is an empty one.
prepare_synapse() {
    local python=$cache/synapse-venv/bin/python
    "$here/synapse_peer.sh" "$work/synapse" 18008 18448 "$python" >/dev/null
    kill "$(cat "$work/synapse/pid")"
    while kill -0 "$(cat "$work/synapse/pid")" 2>/dev/null; do sleep 0.1; done
    rm -f "$work"/synapse/hs.db*
}

measure_synapse() {
    prepare_synapse
    csload --url http://127.0.0.1:18008 --name synapse --datadir "$work/synapse" "${quick[@]}" \
        --spawn "$cache/synapse-venv/bin/python -m synapse.app.homeserver -c $work/synapse/homeserver.yaml" >"$out/synapse.json"
}

measure_millpond() {
    csload --url http://127.0.0.1:18009 --name millpond --datadir "$work/millpond" "${quick[@]}" --spawn "$CARGO_TARGET_DIR/release/millpond run \
        --data-dir $work/millpond --listen 127.0.0.1:18009 --registration open --rate-limits false ${MILLPOND_RUN_ARGS:-}" >"$out/millpond.json"
}

build
{
    echo "$(date -u +%F), $(nproc) cores, $(uname -sr), $(rustc --version), millpond $(git -C "$root" rev-parse --short HEAD)"
    echo
    disk_probe
} >"$out/table.md"
csload --selftest --name csload >"$out/selftest.json"
measure_millpond
disk_probe >>"$out/table.md"
measure_synapse
{
    disk_probe
    echo
    python3 "$here/bench_table.py" "$out/millpond.json" "$out/synapse.json" "$out/selftest.json"
    echo
    python3 "$here/csload/table.py" "$out/millpond.json" "$out/synapse.json"
} >>"$out/table.md"
cat "$out/table.md"
