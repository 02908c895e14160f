//! Thin wrappers over the checksum crates: Adler-32 for log records and snapshots, CRC-32 for the tree digest.

/// Adler-32 of `bytes`.
#[must_use]
pub fn adler32(bytes: &[u8]) -> u32 {
    simd_adler32::adler32(&bytes)
}

/// A running Adler-32.
#[derive(Clone, Default)]
pub struct Adler32(simd_adler32::Adler32);

impl Adler32 {
    /// The sum of no bytes (1).
    #[must_use]
    pub fn new() -> Self {
        Adler32(simd_adler32::Adler32::new())
    }
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
    /// The sum so far.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.finish()
    }
}

/// A running CRC-32 (zlib polynomial).
#[derive(Clone, Default)]
pub struct Crc32(crc32fast::Hasher);

impl Crc32 {
    /// The sum of no bytes (0).
    #[must_use]
    pub fn new() -> Self {
        Crc32(crc32fast::Hasher::new())
    }
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    /// The sum so far.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0.finalize()
    }
}
