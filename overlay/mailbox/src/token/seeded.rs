//! Randomness for the VOPRF library, which asks for it by an older trait: `HKDF(seed, counter)`, block by block.

use rand_core::CryptoRng;
use rand_core_06::{CryptoRng as OldCryptoRng, Error, RngCore};

use crate::{labels, secrets::Secret32};

pub(super) struct Seeded {
    seed: Secret32,
    block: u32,
}

impl Seeded {
    pub(super) fn new(seed: Secret32) -> Self {
        Self { seed, block: 0 }
    }

    /// Takes its seed from the caller's randomness.
    pub(super) fn draw(rng: &mut impl CryptoRng) -> Self {
        Self::new(Secret32::generate(rng))
    }
}

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0_u8; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let block = self.seed.derive_one(labels::TOKEN_RANDOM, &self.block.to_be_bytes());
            self.block += 1;
            chunk.copy_from_slice(&block.as_bytes()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl OldCryptoRng for Seeded {}
