//! The end-to-end encryption of the demo's clients: Olm carries room keys from device to device, Megolm the messages.
//! Spec: "End-to-End Encryption". One device per user, held in memory; a real client keeps it, verifies users and rotates.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use vodozemac::{
    Curve25519PublicKey, Ed25519PublicKey, Ed25519Signature, megolm,
    olm::{Account, OlmMessage, Session, SessionConfig},
};

/// A device with its keys and sessions.
pub(super) struct Device {
    user_id: String,
    device_id: String,
    account: Account,
    /// By the other device's Curve25519 key.
    olm: HashMap<String, Session>,
    /// Other devices, by their Curve25519 key, with checked signatures.
    known: HashMap<String, Peer>,
    /// What we encrypt with, by room.
    sending: HashMap<String, megolm::GroupSession>,
    /// What we decrypt with, by room and session.
    receiving: HashMap<(String, String), Receiving>,
}

/// A device of somebody.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) user_id: String,
    pub(super) device_id: String,
    curve25519: Curve25519PublicKey,
    ed25519: Ed25519PublicKey,
}

struct Receiving {
    session: megolm::InboundGroupSession,
    sender: String,
}

const OLM: &str = "m.olm.v1.curve25519-aes-sha2";
const MEGOLM: &str = "m.megolm.v1.aes-sha2";

impl Device {
    /// A device with new keys.
    pub(super) fn new(user_id: &str, device_id: &str) -> Self {
        Self {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            account: Account::new(),
            olm: HashMap::new(),
            known: HashMap::new(),
            sending: HashMap::new(),
            receiving: HashMap::new(),
        }
    }

    /// The body of `/keys/upload`: the device's keys and so many one-time keys, all signed by it.
    pub(super) fn upload(&mut self, one_time_keys: usize) -> Value {
        let device = &self.device_id;
        let device_keys = self.signed(json!({
            "user_id": self.user_id,
            "device_id": device,
            "algorithms": [OLM, MEGOLM],
            "keys": {
                format!("curve25519:{device}"): self.curve25519(),
                format!("ed25519:{device}"): self.account.ed25519_key().to_base64(),
            },
        }));
        self.account.generate_one_time_keys(one_time_keys);
        let keys = self.account.one_time_keys();
        let one_time: serde_json::Map<_, _> = keys
            .iter()
            .map(|(id, key)| {
                (format!("signed_curve25519:{}", id.to_base64()), self.signed(json!({ "key": key.to_base64() })))
            })
            .collect();
        self.account.mark_keys_as_published();
        json!({ "device_keys": device_keys, "one_time_keys": one_time })
    }

    /// The devices of a user in an answer to `/keys/query`; an error if one's signature does not hold.
    pub(super) fn learn(&mut self, user_id: &str, answer: &Value) -> anyhow::Result<Vec<Peer>> {
        let devices = answer["device_keys"][user_id].as_object().context("the answer has no devices of the user")?;
        let peers = devices.iter().map(|(device_id, keys)| peer(user_id, device_id, keys));
        let peers: Vec<Peer> = peers.collect::<anyhow::Result<_>>()?;
        self.known.extend(peers.iter().map(|peer| (peer.curve25519.to_base64(), peer.clone())));
        Ok(peers)
    }

    /// Whether messages for a device can be sealed already, without claiming a one-time key.
    pub(super) fn has_session_with(&self, peer: &Peer) -> bool {
        self.olm.contains_key(&peer.curve25519.to_base64())
    }

    /// Begins an Olm session with the one-time key of an answer to `/keys/claim`.
    pub(super) fn begin(&mut self, peer: &Peer, answer: &Value) -> anyhow::Result<()> {
        let claimed = answer["one_time_keys"][&peer.user_id][&peer.device_id].as_object();
        let (_, key) = claimed.and_then(|keys| keys.iter().next()).context("the device has no one-time key left")?;
        verify(key, &peer.user_id, &peer.device_id, &peer.ed25519).context("the one-time key")?;
        let one_time = Curve25519PublicKey::from_base64(text(key, "key")?).context("the one-time key")?;
        let session = self.account.create_outbound_session(SessionConfig::version_1(), peer.curve25519, one_time)?;
        self.olm.insert(peer.curve25519.to_base64(), session);
        Ok(())
    }

    /// Begins a new Megolm session in a room and gives the content of the `m.room_key` that others need.
    pub(super) fn new_room_key(&mut self, room_id: &str) -> Value {
        let session = megolm::GroupSession::new(megolm::SessionConfig::version_1());
        let key = json!({
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session.session_id(),
            "session_key": session.session_key().to_base64(),
        });
        self.sending.insert(room_id.to_owned(), session);
        key
    }

    /// The content of the `m.room.encrypted` that carries a room key to one device.
    pub(super) fn seal(&mut self, peer: &Peer, room_key: &Value) -> anyhow::Result<Value> {
        let ed25519 = self.account.ed25519_key().to_base64();
        let plain = json!({
            "type": "m.room_key",
            "content": room_key,
            "sender": self.user_id,
            "recipient": peer.user_id,
            "recipient_keys": { "ed25519": peer.ed25519.to_base64() },
            "keys": { "ed25519": ed25519 },
        });
        let theirs = peer.curve25519.to_base64();
        let session = self.olm.get_mut(&theirs).context("there is no Olm session with the device")?;
        let sealed = session.encrypt(plain.to_string())?;
        Ok(json!({ "algorithm": OLM, "sender_key": self.curve25519(), "ciphertext": { theirs: sealed } }))
    }

    /// Takes a room key out of a to-device `m.room.encrypted`; errors for anything that is not from whom it says.
    pub(super) fn open(&mut self, sender: &str, content: &Value) -> anyhow::Result<()> {
        ensure!(text(content, "algorithm")? == OLM, "an unknown algorithm");
        let theirs = text(content, "sender_key")?;
        let sealed = content["ciphertext"].get(self.curve25519()).context("the message is not for this device")?;
        let message: OlmMessage = serde_json::from_value(sealed.clone()).context("the Olm message")?;
        let plain = self.open_olm(theirs, &message)?;
        let plain: Value = serde_json::from_slice(&plain).context("the decrypted message")?;
        let peer = self.known.get(theirs).context("the sending device's keys have not been fetched")?;
        ensure!(text(&plain, "sender")? == sender && peer.user_id == sender, "the sender is somebody else");
        ensure!(text(&plain["keys"], "ed25519")? == peer.ed25519.to_base64(), "the sending device is another");
        ensure!(text(&plain, "recipient")? == self.user_id, "the message is for another user");
        let ours = self.account.ed25519_key().to_base64();
        ensure!(text(&plain["recipient_keys"], "ed25519")? == ours, "the message is for another device");
        ensure!(text(&plain, "type")? == "m.room_key", "not a room key");
        let key = &plain["content"];
        let (room, id) = (text(key, "room_id")?, text(key, "session_id")?);
        let key = megolm::SessionKey::from_base64(text(key, "session_key")?).context("the room key")?;
        let session = megolm::InboundGroupSession::new(&key, megolm::SessionConfig::version_1());
        ensure!(session.session_id() == id, "the room key is of another session");
        self.receiving.insert((room.to_owned(), id.to_owned()), Receiving { session, sender: sender.to_owned() });
        Ok(())
    }

    fn open_olm(&mut self, theirs: &str, message: &OlmMessage) -> anyhow::Result<Vec<u8>> {
        if let OlmMessage::PreKey(first) = message
            && self.olm.get(theirs).is_none_or(|session| session.session_id() != first.session_id())
        {
            let key = Curve25519PublicKey::from_base64(theirs).context("the sending device's key")?;
            let made = self.account.create_inbound_session(SessionConfig::version_1(), key, first)?;
            self.olm.insert(theirs.to_owned(), made.session);
            return Ok(made.plaintext);
        }
        let session = self.olm.get_mut(theirs).context("there is no Olm session with the sending device")?;
        session.decrypt(message).context("decrypting with Olm")
    }

    /// The content of an encrypted event of a room.
    pub(super) fn encrypt(&mut self, room_id: &str, kind: &str, content: &Value) -> anyhow::Result<Value> {
        let (sender_key, device_id) = (self.curve25519(), self.device_id.clone());
        let session = self.sending.get_mut(room_id).context("there is no Megolm session in the room")?;
        let plain = json!({ "type": kind, "content": content, "room_id": room_id });
        let sealed = session.encrypt(plain.to_string()).to_base64();
        Ok(json!({
            "algorithm": MEGOLM,
            "sender_key": sender_key,
            "device_id": device_id,
            "session_id": session.session_id(),
            "ciphertext": sealed,
        }))
    }

    /// What an encrypted event of a room says; `None` while its room key has not come.
    pub(super) fn decrypt(&mut self, room_id: &str, sender: &str, content: &Value) -> anyhow::Result<Option<Value>> {
        ensure!(text(content, "algorithm")? == MEGOLM, "an unknown algorithm");
        let id = text(content, "session_id")?;
        let Some(receiving) = self.receiving.get_mut(&(room_id.to_owned(), id.to_owned())) else { return Ok(None) };
        ensure!(receiving.sender == sender, "the event's sender does not own the room key");
        let message = megolm::MegolmMessage::from_base64(text(content, "ciphertext")?).context("the Megolm message")?;
        let plain = receiving.session.decrypt(&message).context("decrypting with Megolm")?.plaintext;
        let plain: Value = serde_json::from_slice(&plain).context("the decrypted event")?;
        ensure!(text(&plain, "room_id")? == room_id, "the event is of another room");
        Ok(Some(plain))
    }

    fn curve25519(&self) -> String {
        self.account.curve25519_key().to_base64()
    }

    /// Adds this device's signature ("Signing JSON").
    fn signed(&self, mut object: Value) -> Value {
        let signature = self.account.sign(canonical(&object)).to_base64();
        object["signatures"] = json!({ &self.user_id: { format!("ed25519:{}", self.device_id): signature } });
        object
    }
}

fn peer(user_id: &str, device_id: &str, keys: &Value) -> anyhow::Result<Peer> {
    if text(keys, "user_id")? != user_id || text(keys, "device_id")? != device_id {
        bail!("the keys of a device are those of another one");
    }
    let ed25519 = Ed25519PublicKey::from_base64(text(&keys["keys"], &format!("ed25519:{device_id}"))?)?;
    verify(keys, user_id, device_id, &ed25519).context("the keys of a device")?;
    let curve25519 = Curve25519PublicKey::from_base64(text(&keys["keys"], &format!("curve25519:{device_id}"))?)?;
    Ok(Peer { user_id: user_id.to_owned(), device_id: device_id.to_owned(), curve25519, ed25519 })
}

/// Checks the device's signature on an object of its own.
fn verify(object: &Value, user_id: &str, device_id: &str, key: &Ed25519PublicKey) -> anyhow::Result<()> {
    let signature = text(&object["signatures"][user_id], &format!("ed25519:{device_id}"))?;
    let signature = Ed25519Signature::from_base64(signature).context("the signature")?;
    let mut unsigned = object.clone();
    if let Some(fields) = unsigned.as_object_mut() {
        fields.remove("signatures");
        fields.remove("unsigned");
    }
    key.verify(canonical(&unsigned).as_bytes(), &signature).context("the signature does not hold")
}

/// Canonical JSON: keys sorted, nothing between. Numbers do not occur in what is signed here.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields = sorted.into_iter().map(|(key, value)| format!("{}:{}", json!(key), canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

fn text<'a>(object: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    object.get(field).and_then(Value::as_str).with_context(|| format!("the field `{field}` is missing"))
}
