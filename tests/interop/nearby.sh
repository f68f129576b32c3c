#!/usr/bin/env bash
# Two linked nodes whose addresses have all changed find each other again by mDNS, and only if both chose to be visible nearby.
# Needs root and network namespaces (`ip netns`); touches nothing outside of two of its own. usage: nearby.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
millpond=${MILLPOND:-${CARGO_TARGET_DIR:-$root/target}/debug/millpond}
work=$(mktemp -d -t millpond-nearby-XXXXXX)
one=millpond-one-$$ two=millpond-two-$$
pids=()

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    ip netns del "$one" 2>/dev/null || true
    ip netns del "$two" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# The names of interfaces have 15 characters at most, and are each in a namespace of its own.
network() {
    ip netns add "$one"
    ip netns add "$two"
    ip link add lan netns "$one" type veth peer name lan netns "$two"
    for namespace in "$one" "$two"; do
        ip -n "$namespace" link set lo up
        ip -n "$namespace" link set lan up
    done
}

# addresses NAMESPACE ADDRESS: its only one, and the way for everything.
address() {
    ip -n "$1" addr flush dev lan
    ip -n "$1" addr add "$2/24" dev lan
    ip -n "$1" route add default dev lan
}

# start [arguments]: `millpond run` for both at once, until they answer.
start() {
    ip netns exec "$one" "$millpond" run --data-dir "$work/one" --listen 127.0.0.1:8008 "$@" >>"$work/one.log" 2>&1 &
    pids+=($!)
    ip netns exec "$two" "$millpond" run --data-dir "$work/two" --listen 127.0.0.1:8008 "$@" >>"$work/two.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do
        [ ! -f "$work/one/listening_on" ] || [ ! -f "$work/two/listening_on" ] || return 0
        sleep 0.1
    done
    cat "$work"/*.log >&2
    exit 1
}

stop() {
    for pid in "${pids[@]}"; do kill "$pid"; done
    wait
    pids=()
}

on_one() { ip netns exec "$one" "$millpond" "$@" --data-dir "$work/one"; }
on_two() { ip netns exec "$two" "$millpond" "$@" --data-dir "$work/two"; }
# How the link of the first node stands: the name of its route, if a stream is open.
connected() { on_one status | grep '^Contact' | grep -qv 'not connected'; }

# within SECONDS COMMAND: whether it comes true.
within() {
    local seconds=$1
    shift
    for _ in $(seq "$seconds"); do
        ! "$@" || return 0
        sleep 1
    done
    return 1
}

waits() { on_one contact list | grep -q 'to be confirmed'; }
linked() { on_one contact list | grep -q 'established'; }

network
address "$one" 10.77.0.1
address "$two" 10.77.0.2
start
on_two contact add "$(on_one contact 2>/dev/null | tail -1)" 2>/dev/null
within 20 waits
on_one contact confirm "$(on_one contact list | grep -o '^[a-z2-7]\{56\}.onion')"
within 20 linked
stop

round=1
for visible in false true; do
    address "$one" "10.88.$round.11"
    address "$two" "10.88.$round.12"
    start --visible-nearby "$visible"
    if [ "$visible" = true ]; then
        within 60 connected || { echo "FAILED: not found within a minute"; exit 1; }
        echo "visible nearby: found, and connected"
    else
        ! within 15 connected || { echo "FAILED: connected without a way"; exit 1; }
        echo "not visible: not found"
    fi
    stop
    round=$((round + 1))
done
