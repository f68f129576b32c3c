"""What must not be found where a mailbox host writes: names, rooms and addresses, in any form in which a program would keep them."""
import base64, os, socket

from millpond_node import Failed


def forms(text):
    """A name as it stands, and the bytes behind it where it is a key or a hash; each raw, in hex, base32 and base64."""
    raw = {text.encode()}
    bare = text.split(".")[0].lstrip("!@")
    for decode in (lambda: base64.b32decode(bare.upper() + "=" * (-len(bare) % 8)), lambda: base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))):
        try:
            found = decode()
        except ValueError:
            continue
        if len(found) >= 32:
            raw.update((found, found[:32]))
    spelt = set()
    for some in raw:
        spelt.update((some, some.hex().encode(), some.hex().upper().encode()))
        for encode in (base64.b32encode, base64.b64encode, base64.urlsafe_b64encode):
            whole = encode(some).rstrip(b"=")
            spelt.update((whole, whole.lower()))
    return {form for form in spelt if len(form) >= 4}


def addresses(ip, ports=()):
    """An address in words; its four bytes alone would be found by chance in a file of sealed ones."""
    packed = socket.inet_aton(ip)
    return {ip.encode(), b"/ip4/" + ip.encode(), packed.hex().encode(), b"\x04" + packed + b"\x06", b"\x04" + packed + b"\x91\x02"}


def searched(relay, *groups):
    """Looks through every file of a host and its log. The last group are addresses, the others names. Returns how much was read, in words."""
    *names, ips = groups
    needles = {form: name for group in names for name in group for form in forms(name)}
    needles.update({form: ip for ip in ips for form in addresses(ip)})
    files = [os.path.join(folder, name) for folder, _, found in os.walk(relay.data) for name in found] + [relay.log]
    read = 0
    for path in files:
        with open(path, "rb") as file:
            content = file.read()
        read += len(content)
        lower = content.lower()
        for needle, name in needles.items():
            if needle in content or needle.lower() in lower:
                raise Failed(f"{path} holds {name!r} as {needle[:60]!r}")
    if read < 100_000:
        raise Failed(f"{relay.label} wrote {read} bytes: it was not used")
    return f"{len(files)} files of {read} bytes"
