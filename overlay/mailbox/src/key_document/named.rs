//! The key document of a node that is named by the DNS: the standard one under that name, which shows the identity key and is
//! signed by it as well. Fetched over HTTPS from the name, it proves that the node behind a link speaks for the name
//! (overlay.md, section 1). Unlike the key-form document it runs out: classic servers fetch it again.

use super::{
    DocumentKeys, IDENTITY, KeyDocumentError, MAX_LEN, build, check_identity, check_matrix_signatures, fields, json,
};
use crate::{
    canonical_json,
    identity::{IdentityKey, IdentityPublicKey},
    name::NodeName,
    time::UnixMillis,
};

/// Builds and signs the document of a DNS-named node.
///
/// # Errors
/// If the keys make no valid document.
pub fn build_named(
    identity: &IdentityKey,
    keys: &DocumentKeys<'_>,
    server_name: &str,
    valid_until: UnixMillis,
) -> Result<Vec<u8>, KeyDocumentError> {
    build::signed(identity, keys, (server_name, None), valid_until.0)
}

/// Reads the identity that a DNS-named document shows, and checks every signature of it. Where the document came from is
/// the caller's to know: only HTTPS from the name itself proves the name.
///
/// # Errors
/// If the document is not of this name, or anything in it does not hold.
pub fn prove_named(server_name: &str, bytes: &[u8]) -> Result<NodeName, KeyDocumentError> {
    if bytes.len() > MAX_LEN {
        return Err(KeyDocumentError::TooLong { length: bytes.len() });
    }
    let value = canonical_json::parse(bytes).map_err(json)?;
    let object = value.as_object().ok_or(KeyDocumentError::field("the document"))?;
    if fields::text(object, "server_name")? != server_name {
        return Err(KeyDocumentError::field("server_name"));
    }
    let identity = fields::object(object, IDENTITY)?;
    let key = IdentityPublicKey::from_bytes(&fields::base64_exact::<32>(identity, "key")?)
        .map_err(|source| KeyDocumentError::Key { id: IDENTITY.to_owned(), source })?;
    check_identity(object, identity, &key)?;
    let verify_keys = fields::verify_keys(object)?;
    check_matrix_signatures(object, server_name, &verify_keys)?;
    Ok(NodeName::from_key(&key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::signing_key::{Generation, SigningKey};

    #[test]
    fn a_named_document_proves_its_identity_for_its_own_name_only() {
        let identity = IdentityKey::from_seed(&[7; 32]);
        let signing = SigningKey::from_seed(Generation::FIRST, &[8; 32]);
        let keys = DocumentKeys {
            generation: Generation::FIRST,
            current: &[&signing],
            old: &BTreeMap::new(),
            intro_key: None,
        };
        let document = build_named(&identity, &keys, "pond.example:8448", UnixMillis(1_000)).unwrap();
        assert_eq!(prove_named("pond.example:8448", &document).unwrap(), identity.name());
        assert!(prove_named("other.example", &document).is_err());
        let text = String::from_utf8(document).unwrap();
        let later = text.replace("\"valid_until_ts\":1000", "\"valid_until_ts\":2000");
        assert_ne!(later, text);
        assert!(prove_named("pond.example:8448", later.as_bytes()).is_err());
    }
}
