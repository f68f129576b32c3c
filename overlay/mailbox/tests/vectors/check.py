"""Recomputes every file in this folder without our code: `python3 check.py` (needs `cryptography` 47 or later)."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HERE = Path(__file__).parent
H = bytes.fromhex


def load(name):
    return json.loads((HERE / f"{name}.json").read_text())


def b64(data):
    return base64.b64encode(data).rstrip(b"=").decode()


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def extract(salt, ikm):
    return mac(salt or bytes(32), ikm)


def expand(prk, info, length):
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = mac(prk, block + info + bytes([counter]))
        out, counter = out + block, counter + 1
    return out[:length]


def hkdf(ikm, info, salt=None):
    return expand(extract(salt, ikm), info, 32)


def sign(seed, data):
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def ed25519_public(seed):
    return ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def name(key):
    checksum = hashlib.sha3_256(b".onion checksum" + key + b"\x03").digest()[:2]
    return base64.b32encode(key + checksum + b"\x03").decode().lower() + ".onion"


def key_id(key):
    return "ed25519:" + base64.b32encode(hashlib.sha256(key).digest()[:5]).decode().lower()


def fingerprint(key):
    return hashlib.sha256(b"millpond/fingerprint/1" + key).digest()[:16]


def hint(secret, role, day):
    return mac(hkdf(secret, b"millpond/hint/1"), bytes([role]) + day.to_bytes(4, "big"))[:16]


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def cbor(value):
    def head(major, number):
        if number < 24:
            return bytes([major << 5 | number])
        for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
            if number < 1 << (8 * size):
                return bytes([major << 5 | extra]) + number.to_bytes(size, "big")

    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    return head(4, len(value)) + b"".join(map(cbor, value))


def xwing(seed):
    """The two private keys and the public key (draft-connolly-cfrg-xwing-kem)."""
    expanded = hashlib.shake_256(seed).digest(96)
    m = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    return m, x, m.public_key().public_bytes_raw() + x.public_key().public_bytes_raw()


def xwing_open(seed, enc):
    m, x, public = xwing(seed)
    ss_m = m.decapsulate(enc[:1088])
    ss_x = x.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
    return hashlib.sha3_256(ss_m + ss_x + enc[1088:] + public[1184:] + b"\\.//^\\").digest()


def hpke_open(seed, sealed, info, aad, psk=b"", psk_id=b""):
    """RFC 9180: X-Wing, HKDF-SHA256, ChaCha20Poly1305. Returns the plaintext and the exporter."""
    suite = b"HPKE" + bytes([0x64, 0x7A, 0, 1, 0, 3])

    def labeled_extract(salt, label, ikm):
        return extract(salt, b"HPKE-v1" + suite + label + ikm)

    def labeled_expand(prk, label, context, length):
        return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context, length)

    mode = bytes([1 if psk else 0])
    context = mode + labeled_extract(b"", b"psk_id_hash", psk_id) + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(xwing_open(seed, sealed[:1120]), b"secret", psk)
    key = labeled_expand(secret, b"key", context, 32)
    nonce = labeled_expand(secret, b"base_nonce", context, 12)
    exporter = labeled_expand(secret, b"exp", context, 32)
    plaintext = ChaCha20Poly1305(key).decrypt(nonce, sealed[1120:], aad)
    return plaintext, lambda label, length: labeled_expand(exporter, b"sec", label, length)


class Noise:
    """The symmetric state of the Noise specification, section 5.2."""

    def __init__(self, protocol):
        self.h = self.ck = protocol.ljust(32, b"\0") if len(protocol) <= 32 else hashlib.sha256(protocol).digest()
        self.k, self.n = None, 0

    def derive(self, ikm, count):
        out = expand(extract(self.ck, ikm), b"", 32 * count)
        return [out[32 * i : 32 * i + 32] for i in range(count)]

    def mix_hash(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key(self, ikm):
        self.ck, self.k = self.derive(ikm, 2)
        self.n = 0

    def mix_key_and_hash(self, ikm):
        self.ck, temp, self.k = self.derive(ikm, 3)
        self.n = 0
        self.mix_hash(temp)

    def encrypt(self, plaintext):
        sealed = ChaCha20Poly1305(self.k).encrypt(bytes(4) + self.n.to_bytes(8, "little"), plaintext, self.h)
        self.n += 1
        self.mix_hash(sealed)
        return sealed


def frames(key, texts):
    out = b""
    for number, text in enumerate(texts):
        sealed = ChaCha20Poly1305(key).encrypt(bytes(4) + number.to_bytes(8, "little"), text.encode(), b"")
        out += len(sealed).to_bytes(2, "big") + sealed
    return out.hex()


def check_names(v):
    key, signing = ed25519_public(H(v["identity_seed"])), ed25519_public(H(v["signing_seed"]))
    assert (key.hex(), signing.hex()) == (v["identity_key"], v["signing_key"])
    assert (name(key), fingerprint(key).hex(), key_id(signing)) == (v["name"], v["fingerprint"], v["key_id"])


def key_document(v):
    identity, signing = H(v["identity_seed"]), H(v["signing_seed"])
    key, listed = ed25519_public(identity), ed25519_public(signing)
    part = {"key": b64(key), "generation": v["generation"], "intro_key": b64(xwing(H(v["intro_seed"]))[2])}
    document = {
        "server_name": name(key),
        "valid_until_ts": 4102444800000,
        "verify_keys": {key_id(listed): {"key": b64(listed)}},
        "old_verify_keys": {},
        "org.millpond.identity": part,
    }
    part["sig"] = b64(sign(identity, b"millpond/key-document/1" + canonical(document)))
    signature = sign(signing, canonical(document))
    document["signatures"] = {name(key): {key_id(listed): b64(signature)}}
    return canonical(document)


def check_secrets(v):
    s0, th = H(v["s0"]), H(v["th"])
    for field, label in (("box_id", "box-id"), ("box_key", "box-key"), ("psk", "psk")):
        assert v[field] == hkdf(s0, f"millpond/{label}/1".encode()).hex()
    assert v["link_id"] == hkdf(s0, b"millpond/link-id/1")[:16].hex()
    ls0 = hkdf(H(v["exported"]), th, salt=s0)
    assert v["ls0"] == ls0.hex()
    for role, word in enumerate(("offerer", "answerer")):
        assert v[f"s0_hint_{word}"] == hint(s0, role, v["day"]).hex()
        assert v[f"ls0_hint_{word}"] == hint(ls0, role, v["day"]).hex()


def ways(v):
    return [[kind, H(body)] for kind, body in v["ways"]]


def check_contact_link(v):
    key = ed25519_public(H(v["identity_seed"]))
    link = cbor([1, H(v["s0"]), fingerprint(key), v["expiry_s"], ways(v)])
    assert v["uri"] == "millpond:" + base64.urlsafe_b64encode(link).rstrip(b"=").decode()


def check_bundle(v):
    identity, olm, public = H(v["identity_seed"]), [H(key) for key in v["olm"]], xwing(H(v["xwing_seed"]))[2]
    certificate = sign(identity, b"millpond/olm-cert/1" + olm[0] + public)
    document, stamps = key_document(load("key_document")), [H(stamp) for stamp in v["stamps"]]
    sender = name(ed25519_public(identity))
    assert v["bundle"] == cbor([1, sender, document, *olm, public, certificate, ways(v), stamps]).hex()


def check_answer(v):
    s0, box, answer, seed = H(v["s0"]), v["box"].encode(), H(v["answer"]), H(v["xwing_seed"])
    assert v["xwing_public"] == xwing(seed)[2].hex()
    psk, psk_id = hkdf(s0, b"millpond/psk/1"), hkdf(s0, b"millpond/box-id/1")
    aad = hashlib.sha256(box).digest()
    plaintext, export = hpke_open(seed, answer, b"millpond/answer/1", aad, psk, psk_id)
    assert plaintext.decode() == v["plaintext"]
    th = hashlib.sha256(box + answer).digest()
    assert (th.hex(), hkdf(export(b"millpond/ls0/1", 32), th, salt=s0).hex()) == (v["th"], v["ls0"])


def check_introduction(v):
    raw = H(v["introduction"])
    start = b"\x84" + cbor([1, v["for"], v["room_id"]])[1:]
    assert raw.startswith(start) and raw[len(start)] == 0x59
    aad = v["for"].encode() + b"\0" + v["room_id"].encode()
    plaintext, _ = hpke_open(H(v["intro_seed"]), raw[len(start) + 3 :], b"millpond/intro/1", aad)
    assert plaintext == b"\x01" + H(v["link"]) + b"\x04" + v["done"].encode()


def check_stream(v):
    secret = H(v["ls"])
    first = hint(secret, 1, v["day"])
    dialer, listener = (x25519.X25519PrivateKey.from_private_bytes(H(v[f"{s}_seed"])) for s in ("dialer", "listener"))
    e, re = (key.public_key().public_bytes_raw() for key in (dialer, listener))
    noise = Noise(b"Noise_NNpsk0_25519_ChaChaPoly_SHA256")
    noise.mix_hash(b"millpond/stream/1" + first)
    noise.mix_key_and_hash(hkdf(secret, b"millpond/stream/1"))
    noise.mix_hash(e)
    noise.mix_key(e)
    assert v["opening"] == (first + e + noise.encrypt(b"")).hex()
    noise.mix_hash(re)
    noise.mix_key(re)
    noise.mix_key(listener.exchange(dialer.public_key()))
    assert v["reply"] == (re + noise.encrypt(b"")).hex()
    there, back = noise.derive(b"", 2)
    assert v["dialer_frames"] == frames(there, v["dialer_sends"])
    assert v["listener_frames"] == frames(back, v["listener_sends"])


def stamp(v, serial):
    """Seed, verify key, mac and header of one stamp."""
    mailbox_id, class_ = H(v["mailbox_id"]), bytes([v["class"]])
    seed = hkdf(H(v["batch_seed"]), b"millpond/stamp-seed/1" + serial.to_bytes(2, "big"))
    key = ed25519_public(hkdf(seed, b"millpond/stamp-key/1"))
    tail = mailbox_id + serial.to_bytes(2, "big") + key
    tag = mac(H(v["mailbox_key"]), b"millpond/stamp/1" + class_ + tail)[:16]
    return seed, key, tag, b"\x01" + class_ + tail + tag


def check_stamp(v):
    master = H(v["master_key"])
    for field, label in (("mailbox_id", "mailbox-id"), ("mailbox_key", "mailbox-key")):
        assert v[field] == hkdf(master, f"millpond/{label}/1".encode()).hex()
    assert v["read_key"] == ed25519_public(hkdf(master, b"millpond/read-key/1")).hex()
    assert v["batch_seed"] == hkdf(master, b"millpond/stamp-batch/1" + v["batch"].to_bytes(8, "big")).hex()
    recovery = hkdf(master, b"millpond/recovery-batch/1" + H(v["link_id"]))
    assert v["recovery_batch"] == int.from_bytes(recovery[:8], "big")
    packed = b"".join(serial.to_bytes(2, "big") + stamp(v, serial)[2] for serial in v["serials"])
    assert v["batch_bytes"] == cbor([H(v["mailbox_id"]), v["class"], H(v["batch_seed"]), packed]).hex()
    seed, key, tag, header = stamp(v, v["serials"][1])
    assert [part.hex() for part in (seed, key, tag, header)] == [
        v["stamp_seed"], v["verify_key"], v["mac"], v["header"]
    ]
    host = x25519.X25519PrivateKey.from_private_bytes(H(v["host_secret"])).public_key().public_bytes_raw()
    digest = hashlib.sha256(bytes([v["body_byte"]]) * 4096).digest()
    assert (host.hex(), digest.hex(), len(header)) == (v["host_key"], v["body_digest"], 84)
    signature = sign(hkdf(seed, b"millpond/stamp-key/1"), b"millpond/put/1" + host + header + digest)
    assert v["signature"] == signature.hex()


def x25519_public(secret):
    return x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def check_host_stream(v):
    """Noise_NK: <- s ... -> e, es <- e, ee."""
    host, dialer, answer = (x25519.X25519PrivateKey.from_private_bytes(H(v[f])) for f in ("host_secret", "dialer_seed", "host_seed"))
    s, e, re = (key.public_key().public_bytes_raw() for key in (host, dialer, answer))
    hint = hashlib.sha256(b"millpond/host/1" + s).digest()[:16]
    noise = Noise(b"Noise_NK_25519_ChaChaPoly_SHA256")
    noise.mix_hash(b"millpond/host/1" + hint)
    noise.mix_hash(s)
    noise.mix_hash(e)
    noise.mix_key(dialer.exchange(host.public_key()))
    assert v["opening"] == (hint + e + noise.encrypt(b"")).hex()
    noise.mix_hash(re)
    noise.mix_key(answer.exchange(dialer.public_key()))
    assert v["reply"] == (re + noise.encrypt(H(v["nonce"]))).hex()
    there, back = noise.derive(b"", 2)
    assert v["dialer_frames"] == frames(there, v["dialer_sends"])
    assert v["host_frames"] == frames(back, v["host_sends"])


def check_host_request(v):
    master, host, nonce = H(v["master_key"]), x25519_public(H(v["host_secret"])), H(v["nonce"])
    mailbox_id, mailbox_key, read_seed = (
        hkdf(master, f"millpond/{label}/1".encode()) for label in ("mailbox-id", "mailbox-key", "read-key")
    )

    def signed(request):
        return (request + sign(read_seed, b"millpond/get/1" + host + nonce + request)).hex()

    serials = b"".join(serial.to_bytes(2, "big") for serial in v["serials"])
    assert v["delete"] == signed(b"\0\0\0\x03" + bytes([17]) + mailbox_id + serials)
    token = H(v["token"])
    fields = token + b"\x02" + mailbox_id + mailbox_key + ed25519_public(read_seed)
    assert v["create"] == signed(b"\0\0\0\x04" + bytes([4]) + fields)
    assert v["spent_mark"] == hashlib.sha256(b"millpond/spent/1" + token[:32]).hexdigest()
    way = host + b"".join(bytes([len(H(a))]) + H(a) for a in v["addresses"])
    link = base64.urlsafe_b64encode(b"\x01" + H(v["token_key"]) + way).rstrip(b"=").decode()
    assert v["link"] == "millpond-host:" + link
    grant = H(v["grant"])
    grant_key = hkdf(H(v["token_secret"]), b"millpond/grant-key/1")
    assert grant[16:] == mac(grant_key, b"millpond/grant/1" + grant[:16])


def hchacha20(key, nonce):
    """draft-irtf-cfrg-xchacha, section 2.2."""
    word = lambda data: [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    s = word(b"expand 32-byte k") + word(key) + word(nonce)

    def turn(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] ^= s[x]
            s[z] = (s[z] << by | s[z] >> (32 - by)) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            turn(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            turn(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join(x.to_bytes(4, "little") for x in s[:4] + s[12:])


def check_envelope(v):
    header, body = H(v["header"]), H(v["body"])
    key = hkdf(H(v["seed"]), b"millpond/env/1" + header, salt=H(v["ls"]))
    cipher = ChaCha20Poly1305(hchacha20(key, body[:16]))
    plain = cipher.decrypt(bytes(4) + body[16:24], body[24:], header)
    start = bytes([v["kind"]]) + v["frame_no"].to_bytes(4, "big") + v["payload"].encode() + b"\x80"
    assert plain == start.ljust(4096 - 40, b"\0")


def check_link_secrets(v):
    ls0, rk = H(v["ls0"]), hkdf(H(v["ls0"]), b"millpond/rk/1")
    digest = lambda text: hashlib.sha256(text.encode()).digest()
    info = b"millpond/ls/1" + (1).to_bytes(4, "big") + digest(v["ct_lo"]) + digest(v["ct_hi"])
    assert v["ls1"] == hkdf(H(v["ss_lo"]) + H(v["ss_hi"]), info, salt=ls0).hex()
    assert v["rk"] == rk.hex()
    assert v["hello_s0"] == hkdf(rk, b"millpond/hello-s0/1" + v["incarnation"].to_bytes(8, "big")).hex()
    assert v["answer_envelope"] == hkdf(H(v["s0"]), b"millpond/answer-env/1").hex()


def check_frame(v):
    items = b"\0" + cbor([[seq, kind, H(body)] for seq, kind, body in v["items"]])
    fields = (("a", v["acks"]), ("n", v["nak"]), ("f", v["floor"]), ("g", v["granted"]), ("u", [[H(m), s, l] for m, s, l in v["used"]]), ("t", H(v["th"])), ("i", [items]))
    assert v["frame"] == (bytes([0xA0 | len(fields)]) + b"".join(cbor(key) + cbor(value) for key, value in fields)).hex()


def check_descriptor(v):
    body = [1, name(ed25519_public(H(v["identity_seed"]))), v["issued"], v["expiry"], ways(v)]
    signature = sign(H(v["signing_seed"]), b"millpond/descriptor/1" + cbor(body))
    assert v["descriptor"] == cbor([*body, signature]).hex()


def check_dictionary(v):
    text = (HERE / "../../dictionary/matrix-1.txt").read_bytes()
    assert v["sha256"] == hashlib.sha256(text).hexdigest()


check_names(load("names"))
assert key_document(load("key_document")).decode() == load("key_document")["document"]
check_secrets(load("secrets"))
check_contact_link(load("contact_link"))
check_bundle(load("bundle"))
check_answer(load("answer"))
check_introduction(load("introduction"))
check_stream(load("stream"))
check_stamp(load("stamp"))
check_host_stream(load("host_stream"))
check_host_request(load("host_request"))
check_envelope(load("envelope"))
check_link_secrets(load("link_secrets"))
check_frame(load("frame"))
check_descriptor(load("descriptor"))
check_dictionary(load("dictionary"))
print("every vector is as computed here")
