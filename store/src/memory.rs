//! A database without a file.

use std::sync::Arc;

use redb::{StorageBackend, backends::InMemoryBackend};

/// Memory as a storage; clones stand for the same one.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<InMemoryBackend>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(InMemoryBackend::new()))
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
}
