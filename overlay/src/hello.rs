//! What two nodes tell each other when a stream opens: where they can be reached now, and the current key document. It is an ordinary request on the
//! stream, answered by the overlay itself; the link proves who says it.

use millpond_mailbox::rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::transport::Address;

/// Both request and response of `HELLO_PATH`, in CBOR.
#[derive(Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Random for each run of the sender: another one than last time means that he was restarted.
    pub(crate) run: RunId,
    /// Where the sender can be dialled now; empty when it does not listen.
    addresses: Vec<ByteBuf>,
    /// The sender's current key document.
    #[serde(with = "serde_bytes")]
    pub(crate) key_document: Vec<u8>,
}

impl Hello {
    pub(crate) fn new(run: RunId, addresses: &[Address], key_document: Vec<u8>) -> Self {
        let addresses = addresses.iter().take(MAX_ADDRESSES).map(|address| ByteBuf::from(address.as_bytes()));
        Self { run, addresses: addresses.collect(), key_document }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_cbor::to_vec(self).expect("writing CBOR to memory does not fail")
    }

    /// Reads what a peer sent. Addresses that are none are left out: they may be of a kind that a later version knows.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_cbor::Error> {
        serde_cbor::from_slice(bytes)
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.addresses.iter().take(MAX_ADDRESSES).filter_map(|bytes| Address::from_bytes(bytes).ok()).collect()
    }
}

/// Names one run of a node.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RunId(u64);

impl RunId {
    pub(crate) fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(rng.next_u64())
    }
}

/// Of one node; a machine with more networks than this is reached by these.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// Bytes: eight addresses and a key document, with room to spare.
pub(crate) const MAX_HELLO: usize = 128 << 10;
/// Answered by the overlay; never shown to the node.
pub(crate) const HELLO_PATH: &str = "/_millpond/overlay/v1/hello";
