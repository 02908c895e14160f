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

/// Adler-32 of any part of `bytes`, at a cost that does not grow with the part: for searches that try many parts.
pub struct Adler32Index<'a> {
    bytes: &'a [u8],
    /// The two sums of everything before each multiple of `INDEX_STEP`, begun with zero.
    sums: Vec<(u32, u32)>,
}

/// Bytes between two sums that are kept.
const INDEX_STEP: usize = 512;
/// Adler-32 counts modulo this prime.
const ADLER_MODULUS: u64 = 65_521;

impl<'a> Adler32Index<'a> {
    /// Reads `bytes` once.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut sums = Vec::with_capacity(bytes.len() / INDEX_STEP + 1);
        let mut sum = (0, 0);
        for step in bytes.chunks(INDEX_STEP) {
            sums.push((sum.0 as u32, sum.1 as u32));
            sum = add(sum, step);
        }
        sums.push((sum.0 as u32, sum.1 as u32));
        Adler32Index { bytes, sums }
    }

    /// The sum of the part from `start` up to `end`.
    #[must_use]
    pub fn sum(&self, start: usize, end: usize) -> u32 {
        let ((a0, b0), (a1, b1)) = (self.before(start), self.before(end));
        let n = (end - start) as u64 % ADLER_MODULUS;
        let a = (1 + a1 + ADLER_MODULUS - a0) % ADLER_MODULUS;
        // Each byte of the part counted what was before the part, and a sum begins with one.
        let b = (b1 + ADLER_MODULUS - b0 + n * (ADLER_MODULUS + 1 - a0)) % ADLER_MODULUS;
        (b as u32) << 16 | a as u32
    }

    fn before(&self, at: usize) -> (u64, u64) {
        let step = at / INDEX_STEP;
        let (a, b) = self.sums[step.min(self.sums.len() - 1)];
        add((a.into(), b.into()), &self.bytes[step * INDEX_STEP..at])
    }
}

fn add((mut a, mut b): (u64, u64), bytes: &[u8]) -> (u64, u64) {
    for byte in bytes {
        a += u64::from(*byte);
        b += a;
    }
    (a % ADLER_MODULUS, b % ADLER_MODULUS)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indexed_sum_is_that_of_the_part() {
        let bytes: Vec<u8> = (0..3 * INDEX_STEP as u32 + 77).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
        let index = Adler32Index::new(&bytes);
        let edges = [0, 1, 100, INDEX_STEP - 1, INDEX_STEP, INDEX_STEP + 1, 2 * INDEX_STEP, bytes.len() - 1, bytes.len()];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end >= start) {
                assert_eq!(index.sum(start, end), adler32(&bytes[start..end]), "{start}..{end}");
            }
        }
        assert_eq!(Adler32Index::new(&[]).sum(0, 0), adler32(&[]));
        let whole = vec![0xff; 2 * INDEX_STEP];
        assert_eq!(Adler32Index::new(&whole).sum(0, whole.len()), adler32(&whole), "a multiple of the step");
    }
}
