#!/usr/bin/env python3
"""bench_table.py MILLPOND.json SYNAPSE.json [SELFTEST.json]: the rows that have a target, as Markdown. The target is the ratio to Synapse in the
same run: absolute figures move from machine to machine."""
import json, sys


def at(document, *path):
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def cpu_per_send(document):
    seconds, count = at(document, "send_sequential", "server_cpu_s"), at(document, "send_sequential", "n")
    return seconds * 1000 / count if seconds is not None and count else None


def disk(document):
    return at(document, "disk_mb_after_shutdown") or at(document, "disk_mb_after")


def events(document):
    """How many events csload had the server store: sends, state, and about eight for each room."""
    sends = sum(at(document, name, "n") or 0 for name in document if name.startswith("send_"))
    rooms, each = at(document, "sync", "rooms") or 0, at(document, "sync", "messages_each") or 0
    return sends + (at(document, "wake", "n") or 0) + rooms * (each + 8) + (at(document, "state", "set", "n") or 0) + (at(document, "join", "n") or 0)


def disk_per_event(document):
    """Without the media, which are stored as they come."""
    total, media = disk(document), (at(document, "media", "mb") or 0) * (at(document, "media", "times") or 0)
    count = events(document)
    return (total - media) * 1000 / count if total is not None and count else None


# (row, unit, where in csload's document, whether more is better, the best Rust peer's ratio to Synapse, the target ratio)
ROWS = [
    ("start to first 200, empty", "s", ("startup", "to_first_200_s"), False, 1.5, 16),
    ("start to first 200, with the run's data", "s", ("restart_with_data", "to_first_200_s"), False, 2.5, 16),
    ("idle RSS", "MB", ("idle", "rss_mb"), False, 2.8, 4),
    ("RSS at the end of the run", "MB", ("end", "rss_mb"), False, 2.0, 3),
    ("data directory after the run", "MB", disk, False, 0.6, 2),
    ("the same without media, per event stored", "kB", disk_per_event, False, None, None),
    ("GET /versions, 16 connections", "/s", ("versions_c16", "per_s"), True, 23, 14),
    ("send, one connection, p50", "ms", ("send_sequential", "p50_ms"), False, 25, 30),
    ("send, one connection, p99", "ms", ("send_sequential", "p99_ms"), False, 26, 26),
    ("send, 16 connections, one room", "/s", ("send_c16_1room", "per_s"), True, 4.4, 32),
    ("send, 64 connections, one room", "/s", ("send_c64_1room", "per_s"), True, 2.5, 40),
    ("send, 64 connections, 16 rooms", "/s", ("send_c64_16rooms", "per_s"), True, 15, 48),
    ("server CPU per send", "ms", cpu_per_send, False, 28, 80),
    ("wake-up of a waiting /sync after the answer, p50", "ms", ("wake", "after_ack", "p50_ms"), False, 6.6, 11),
    ("initial /sync, 100 rooms x 50 events", "ms", ("sync", "initial", 0, "ms"), False, 16, 60),
    ("empty incremental /sync, p50", "ms", ("sync", "empty_incremental", "p50_ms"), False, 2.7, 23),
    ("/messages, pages of 100", "/s", ("messages", "pages_per_s"), True, 34, 66),
    ("createRoom, one connection", "/s", ("create_room_c1", "per_s"), True, 18, 50),
    ("join, 8 at once, into one room", "/s", ("join", "per_s"), True, 4.1, 40),
    ("send into a room of 200 local members, p50", "ms", ("send_sequential_200_members", "p50_ms"), False, 2.7, 33),
    ("media upload 10 MB, median", "MB/s", ("media", "upload_median_mb_s"), True, 0.9, None),
    ("media download 10 MB, median", "MB/s", ("media", "download_median_mb_s"), True, 3.2, None),
    ("state events, 8 at once", "/s", ("state", "set", "per_s"), True, 42, 130),
    ("full /state of 2,000 events", "ms", ("state", "full_state_ms", 0), False, 7.5, 33),
]


# csload rounds to three digits: 0 means "before the answer was read", not "not measured".
SMALLEST = 0.001


def figure(value):
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def value_of(document, where):
    found = where(document) if callable(where) else at(document, *where)
    return found if isinstance(found, (int, float)) else None


def verdict(ratio, peer, target):
    if ratio is None:
        return "not measured"
    if peer is None:
        return ""
    if ratio < peer * 0.7:  # differences under 30 % are noise
        return "slower than the best Rust peer"
    if target is None:
        return ""
    return "met" if ratio >= target * 0.7 else "within two" if ratio * 2 >= target else "short"


def main():
    ours, synapse = (json.load(open(path)) for path in sys.argv[1:3])
    print("| row | Millpond | Synapse | ratio | target ratio | best Rust peer's | verdict |\n|---|---|---|---|---|---|---|")
    for name, unit, where, more, peer, target in ROWS:
        a, b = value_of(ours, where), value_of(synapse, where)
        measured = a is not None and b is not None
        ratio = (a / max(b, SMALLEST) if more else b / max(a, SMALLEST)) if measured else None
        shown = f"{figure(ratio)}x" if ratio is not None else "-"
        print(f"| {name} ({unit}) | {figure(a)} | {figure(b)} | {shown} | {f'{target}x' if target else '-'} | {f'{peer}x' if peer else '-'} | {verdict(ratio, peer, target)} |")
    if len(sys.argv) > 3:
        ceiling = at(json.load(open(sys.argv[3])), "get_c16", "per_s")
        print(f"\ncsload's own ceiling at 16 connections: {figure(ceiling)}/s; /versions counts as met at half of it.")


main()
