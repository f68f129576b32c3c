//! Every domain-separation label of the delivery protocol, in one place so that none is used twice.
//!
//! | label | used as |
//! |---|---|
//! | `KEY_DOCUMENT`, `OLM_CERT`, `FINGERPRINT` | first bytes of what the identity key signs, or of what is hashed |
//! | `BOX_ID` ... `LINK_ID` | HKDF info, key material `s0` |
//! | `STREAM`, `HINT` | HKDF info, key material `s0` before a link and `LS[e]` after |
//! | `DISCOVERY` | HKDF info, key material `s0` before a link and the restoration key after |
//! | `LS0` | HPKE exporter context |
//! | `ANSWER`, `INTRO` | HPKE info |
//! | `HOST` | first bytes of the hint of a stream to a host, and of its Noise prologue |
//! | `TOKEN` ... `GRANT_KEY` | VOPRF key derivation; HKDF infos of token randomness and of the operator's grant key |
//! | `GRANT`, `SPENT` | first bytes of what a grant's mac covers, and of what is hashed when it or a token is spent |
//! | `ENVELOPE` | HKDF info (followed by the header), salt `LS[e]` or what stands in for it, key material stamp seed |
//! | `LINK_SECRET` | HKDF info (followed by epoch and ciphertexts), salt `LS[e]` |
//! | `RESTORE_KEY`, `ANSWER_ENVELOPE` | HKDF info, key material `LS[0]` and `s0` |
//! | `HELLO_S0` | HKDF info (followed by the incarnation), key material the restoration key |
//! | `HELLO`, `DESCRIPTOR` | first bytes of what the identity key and the signing key sign |
//! | `CONFIRM`, `DONE` | first bytes of the Olm plaintext that carries `th` |
//! | `MAILBOX_ID` ... `RECOVERY_BATCH` | HKDF info, key material `K` of a mailbox; the last two are followed by the batch and by the link |
//! | `STAMP_SEED`, `STAMP_KEY` | HKDF info, key material batch seed (followed by the serial) and stamp seed |
//! | `STAMP`, `PUT`, `GET` | first bytes of what a stamp's mac and the signatures of a deposit and of an owner's request cover |

pub(crate) const KEY_DOCUMENT: &[u8] = b"millpond/key-document/1";
pub(crate) const OLM_CERT: &[u8] = b"millpond/olm-cert/1";
pub(crate) const FINGERPRINT: &[u8] = b"millpond/fingerprint/1";

pub(crate) const BOX_ID: &[u8] = b"millpond/box-id/1";
pub(crate) const BOX_KEY: &[u8] = b"millpond/box-key/1";
pub(crate) const PSK: &[u8] = b"millpond/psk/1";
pub(crate) const LINK_ID: &[u8] = b"millpond/link-id/1";

pub(crate) const STREAM: &[u8] = b"millpond/stream/1";
pub(crate) const HINT: &[u8] = b"millpond/hint/1";
pub(crate) const DISCOVERY: &[u8] = b"millpond/discovery/1";

pub(crate) const LS0: &[u8] = b"millpond/ls0/1";
pub(crate) const ANSWER: &[u8] = b"millpond/answer/1";
pub(crate) const INTRO: &[u8] = b"millpond/intro/1";

pub(crate) const CONFIRM: &[u8] = b"millpond/confirm/1";
pub(crate) const DONE: &[u8] = b"millpond/done/1";

pub(crate) const MAILBOX_ID: &[u8] = b"millpond/mailbox-id/1";
pub(crate) const MAILBOX_KEY: &[u8] = b"millpond/mailbox-key/1";
pub(crate) const READ_KEY: &[u8] = b"millpond/read-key/1";
pub(crate) const STAMP_BATCH: &[u8] = b"millpond/stamp-batch/1";
pub(crate) const RECOVERY_BATCH: &[u8] = b"millpond/recovery-batch/1";
pub(crate) const STAMP_SEED: &[u8] = b"millpond/stamp-seed/1";
pub(crate) const STAMP_KEY: &[u8] = b"millpond/stamp-key/1";
pub(crate) const STAMP: &[u8] = b"millpond/stamp/1";
pub(crate) const PUT: &[u8] = b"millpond/put/1";
pub(crate) const GET: &[u8] = b"millpond/get/1";

pub(crate) const HOST: &[u8] = b"millpond/host/1";
pub(crate) const TOKEN: &[u8] = b"millpond/token/1";
pub(crate) const TOKEN_INPUT: &[u8] = b"millpond/token-input/1";
pub(crate) const TOKEN_BLIND: &[u8] = b"millpond/token-blind/1";
pub(crate) const TOKEN_RANDOM: &[u8] = b"millpond/token-random/1";
pub(crate) const GRANT_KEY: &[u8] = b"millpond/grant-key/1";
pub(crate) const GRANT: &[u8] = b"millpond/grant/1";
pub(crate) const SPENT: &[u8] = b"millpond/spent/1";
pub(crate) const ENVELOPE: &[u8] = b"millpond/env/1";
pub(crate) const LINK_SECRET: &[u8] = b"millpond/ls/1";
pub(crate) const RESTORE_KEY: &[u8] = b"millpond/rk/1";
pub(crate) const HELLO: &[u8] = b"millpond/hello/1";
pub(crate) const HELLO_S0: &[u8] = b"millpond/hello-s0/1";
pub(crate) const ANSWER_ENVELOPE: &[u8] = b"millpond/answer-env/1";
pub(crate) const DESCRIPTOR: &[u8] = b"millpond/descriptor/1";
