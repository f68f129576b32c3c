//! Signed JSON objects of clients: device keys, cross-signing keys. Unknown fields are kept, so that signatures hold.
//! Spec: client-server "Key management API", appendices "Signing JSON".

use millpond_matrix::signing::{to_canonical_json_string_for_signing, verify_canonical_json_bytes};
use ruma::{
    CanonicalJsonValue, DeviceId, SigningKeyAlgorithm, UserId,
    serde::{Base64, JsonObject, base64::Standard},
};
use serde_json::Value;

use crate::Error;

/// A JSON object with `keys` and `signatures`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signed(JsonObject);

impl Signed {
    /// Reads an object.
    pub(crate) fn parse(json: &str) -> Result<Self, Error> {
        let object = serde_json::from_str(json).map_err(|e| Error::bad_json(format!("a key is not an object: {e}")))?;
        Ok(Self(object))
    }

    /// Reads an object of our own tables.
    pub(crate) fn stored(json: &str) -> Self {
        // What we stored was parsed before; a damaged row shows as a key without content rather than as a crash.
        Self(serde_json::from_str(json).unwrap_or_default())
    }

    /// As JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(&self.0).expect("a JSON object serialises")
    }

    /// A text field.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// The key named `id` in `keys`.
    pub(crate) fn key(&self, id: &str) -> Option<&str> {
        self.0.get("keys")?.as_object()?.get(id)?.as_str()
    }

    /// All of `keys`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &Value)> {
        let keys = self.0.get("keys").and_then(Value::as_object);
        keys.into_iter().flatten().map(|(id, key)| (id.as_str(), key))
    }

    /// Whether the list `field` has `word`.
    pub(crate) fn lists(&self, field: &str, word: &str) -> bool {
        self.0.get(field).and_then(Value::as_array).is_some_and(|list| list.iter().any(|item| item == word))
    }

    /// The signatures of one signer: (key id, signature).
    pub(crate) fn signatures_of(&self, signer: &UserId) -> Vec<(String, String)> {
        let signatures = self.0.get("signatures").and_then(|all| all.get(signer.as_str())).and_then(Value::as_object);
        let pairs = signatures.into_iter().flatten();
        pairs.filter_map(|(id, signature)| Some((id.clone(), signature.as_str()?.to_owned()))).collect()
    }

    /// Adds a signature.
    pub(crate) fn add_signature(&mut self, signer: &UserId, key_id: &str, signature: &str) {
        let all = self.0.entry("signatures").or_insert_with(|| Value::Object(JsonObject::new()));
        let Some(all) = all.as_object_mut() else { return };
        let of_signer = all.entry(signer.as_str()).or_insert_with(|| Value::Object(JsonObject::new()));
        if let Some(of_signer) = of_signer.as_object_mut() {
            of_signer.insert(key_id.to_owned(), signature.into());
        }
    }

    /// Removes the signatures of everybody whom `keep` does not name.
    pub(crate) fn retain_signers(&mut self, keep: impl Fn(&str) -> bool) {
        if let Some(all) = self.0.get_mut("signatures").and_then(Value::as_object_mut) {
            all.retain(|signer, _| keep(signer));
        }
    }

    /// Replaces `unsigned`, which only servers write.
    pub(crate) fn set_display_name(&mut self, name: Option<&str>) {
        self.0.remove("unsigned");
        if let Some(name) = name {
            self.0.insert("unsigned".to_owned(), serde_json::json!({ "device_display_name": name }));
        }
    }

    /// Whether what is signed is the same in both.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        self.content() == other.content()
    }

    /// Checks the signature that `signer` made with the key `key_id` (`ed25519:..`).
    pub(crate) fn verify(&self, signer: &UserId, key_id: &str, public_key: &str) -> Result<(), String> {
        let signatures = self.signatures_of(signer);
        let Some((_, signature)) = signatures.iter().find(|(id, _)| id == key_id) else {
            return Err(format!("there is no signature by {key_id}"));
        };
        let signature = decode(signature).ok_or("the signature is not base64")?;
        let public_key = decode(public_key).ok_or("the signing key is not base64")?;
        let object = match CanonicalJsonValue::try_from(Value::Object(self.0.clone())) {
            Ok(CanonicalJsonValue::Object(object)) => object,
            Ok(_) => return Err("not an object".to_owned()),
            Err(e) => return Err(format!("not canonical JSON: {e}")),
        };
        let bytes = to_canonical_json_string_for_signing(&object).map_err(|e| e.to_string())?;
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, &public_key, &signature, bytes.as_bytes())
            .map_err(|_| format!("the signature by {key_id} does not verify"))
    }

    fn content(&self) -> JsonObject {
        let mut object = self.0.clone();
        object.remove("signatures");
        object.remove("unsigned");
        object
    }
}

/// What a cross-signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Usage {
    /// Signs the other two.
    Master,
    /// Signs the user's own devices.
    SelfSigning,
    /// Signs the master keys of others.
    UserSigning,
}

impl Usage {
    /// As the specification and our tables write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// A cross-signing key: one Ed25519 key, named after itself.
#[derive(Clone, Debug)]
pub(crate) struct CrossSigningKey {
    /// The object, with signatures of its owner only.
    pub(crate) signed: Signed,
    /// The public key, base64.
    pub(crate) public: String,
}

impl CrossSigningKey {
    /// Checks a key of `owner`.
    pub(crate) fn parse(json: &str, owner: &UserId, usage: Usage) -> Result<Self, Error> {
        let mut signed = Signed::parse(json)?;
        let name = usage.as_str();
        if signed.text("user_id") != Some(owner.as_str()) {
            return Err(Error::invalid_param(format!("user_id of the {name} key is not {owner}")));
        }
        if !signed.lists("usage", name) {
            return Err(Error::invalid_param(format!("usage of the {name} key does not list \"{name}\"")));
        }
        let public = only_key(&signed).ok_or_else(|| {
            Error::invalid_param(format!("the {name} key must be one ed25519 key named after itself"))
        })?;
        signed.retain_signers(|signer| signer == owner.as_str());
        signed.set_display_name(None);
        Ok(Self { signed, public })
    }

    /// A key of our own tables.
    pub(crate) fn stored(json: &str) -> Option<Self> {
        let signed = Signed::stored(json);
        let public = only_key(&signed)?;
        Some(Self { signed, public })
    }

    /// The id that its signatures are filed under.
    pub(crate) fn id(&self) -> String {
        format!("ed25519:{}", self.public)
    }
}

/// Checks device keys of `owner`'s `device`: that they are about this device, and its own signature if it made one.
pub(crate) fn device_keys(json: &str, owner: &UserId, device: &DeviceId) -> Result<Signed, Error> {
    let mut keys = Signed::parse(json)?;
    if keys.text("user_id") != Some(owner.as_str()) {
        return Err(Error::invalid_param(format!("device_keys.user_id is not {owner}")));
    }
    if keys.text("device_id") != Some(device.as_str()) {
        return Err(Error::invalid_param(format!("device_keys.device_id is not {device}")));
    }
    if json.len() > MAX_KEY_BYTES {
        return Err(Error::too_large(format!("device_keys are larger than {MAX_KEY_BYTES} bytes")));
    }
    for (id, key) in keys.keys() {
        let names_device = id.split_once(':').is_some_and(|(_, name)| name == device.as_str());
        if !names_device || !key.is_string() {
            return Err(Error::invalid_param(format!("device_keys.keys: \"{id}\" is not a key of device {device}")));
        }
    }
    let own = format!("ed25519:{device}");
    let signed_itself = keys.signatures_of(owner).iter().any(|(id, _)| *id == own);
    if let Some(public) = keys.key(&own)
        && signed_itself
    {
        keys.verify(owner, &own, public).map_err(invalid_signature)?;
    }
    keys.set_display_name(None);
    Ok(keys)
}

/// 400 `M_INVALID_SIGNATURE`.
pub(crate) fn invalid_signature(why: String) -> Error {
    // ruma has no variant for this code.
    let kind = serde_json::from_value(serde_json::json!({ "errcode": "M_INVALID_SIGNATURE" }));
    let kind = kind.expect("ruma takes any error code");
    Error::matrix(http::StatusCode::BAD_REQUEST, kind, why)
}

fn only_key(signed: &Signed) -> Option<String> {
    let mut keys = signed.keys();
    let (id, key) = keys.next()?;
    let public = key.as_str()?;
    let names_itself = id.strip_prefix("ed25519:") == Some(public) && decode(public)?.len() == 32;
    (names_itself && keys.next().is_none()).then(|| public.to_owned())
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    Base64::<Standard>::parse(base64).ok().map(Base64::into_inner)
}

/// Largest device keys or one-time key: today's are under 1 KiB, post-quantum ones would be a few.
pub(crate) const MAX_KEY_BYTES: usize = 32 * 1024;
