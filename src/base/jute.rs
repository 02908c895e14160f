//! Jute binary encoding: big-endian integers, length-prefixed buffers, strings and vectors; length -1 is null.
//!
//! Reading borrows from the input and allocates nothing. Every length is checked against the bytes that are left
//! before it is used, so hostile input can neither over-read nor over-allocate (rule S1).

use std::fmt;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ended inside a field.
    Truncated,
    /// A length or count is negative (other than -1) or larger than what is left.
    BadLength(i32),
    /// A string is not UTF-8.
    NotUtf8,
    /// A field that may not be null is null.
    Null,
    /// A value outside its enumeration; the field's name and the value.
    BadValue(&'static str, i64),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("input ends inside a field"),
            DecodeError::BadLength(n) => write!(f, "unreasonable length = {n}"),
            DecodeError::NotUtf8 => f.write_str("string is not UTF-8"),
            DecodeError::Null => f.write_str("null where a value is required"),
            DecodeError::BadValue(field, v) => write!(f, "bad {field} {v}"),
        }
    }
}
impl std::error::Error for DecodeError {}

/// A cursor over encoded bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `buf`.
    #[must_use]
    pub const fn new(buf: &'a [u8]) -> Self {
        Reader { buf, pos: 0 }
    }
    /// Bytes consumed so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.pos
    }
    /// Bytes not consumed yet.
    #[must_use]
    pub fn remaining(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }
    /// True when everything has been consumed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pos == self.buf.len()
    }
    /// What was consumed since `start`.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.buf[start..self.pos]
    }
    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.pos.checked_add(n).ok_or(DecodeError::Truncated)?;
        let out = self.buf.get(self.pos..end).ok_or(DecodeError::Truncated)?;
        self.pos = end;
        Ok(out)
    }
    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| DecodeError::Truncated)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }
    /// A boolean; any non-zero byte is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }
    /// A 32-bit integer.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }
    /// A 64-bit integer.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }
    /// A buffer; `None` is null, which is distinct from empty.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            n if n < 0 => Err(DecodeError::BadLength(n)),
            n => self.take(n as usize).map(Some).map_err(|_| DecodeError::BadLength(n)),
        }
    }
    /// A string; `None` is null.
    pub fn opt_string(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.buffer()? {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::NotUtf8),
        }
    }
    /// A string that may not be null.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        self.opt_string()?.ok_or(DecodeError::Null)
    }
    /// A vector's count: `None` is null; other negative counts read as empty, as Java's do. `min_element_bytes` (at least 1) bounds it by what is left.
    pub fn count(&mut self, min_element_bytes: usize) -> Result<Option<usize>, DecodeError> {
        match self.i32()? {
            -1 => Ok(None),
            n if n < 0 => Ok(Some(0)),
            n if n as usize > self.remaining().len() / min_element_bytes => Err(DecodeError::BadLength(n)),
            n => Ok(Some(n as usize)),
        }
    }
    /// A vector of strings, checked and left encoded.
    pub fn string_vec(&mut self) -> Result<StringVec<'a>, DecodeError> {
        let start = self.pos;
        let count = self.count(4)?.unwrap_or(0);
        for _ in 0..count {
            self.string()?;
        }
        Ok(StringVec { count, raw: self.since(start) })
    }
}

/// A vector of strings that has been checked and is still in its encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringVec<'a> {
    count: usize,
    raw: &'a [u8],
}

impl<'a> StringVec<'a> {
    /// No strings.
    pub const EMPTY: StringVec<'static> = StringVec { count: 0, raw: &[0, 0, 0, 0] };
    /// Number of strings; null counts as none.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }
    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// The encoded form, count included.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }
    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(&self.raw[4..]);
        // Checked when constructed, so nothing is lost by ending at an error.
        (0..self.count).map_while(move |_| reader.string().ok())
    }
}

/// Appends jute-encoded values to a byte buffer.
pub trait Writer {
    /// Raw bytes, no length.
    fn put_raw(&mut self, bytes: &[u8]);
    /// One byte.
    fn put_u8(&mut self, v: u8) {
        self.put_raw(&[v]);
    }
    /// A boolean.
    fn put_bool(&mut self, v: bool) {
        self.put_u8(u8::from(v));
    }
    /// A 32-bit integer.
    fn put_i32(&mut self, v: i32) {
        self.put_raw(&v.to_be_bytes());
    }
    /// A 64-bit integer.
    fn put_i64(&mut self, v: i64) {
        self.put_raw(&v.to_be_bytes());
    }
    /// A length or count.
    fn put_len(&mut self, n: usize) {
        debug_assert!(n <= i32::MAX as usize);
        self.put_i32(n as i32);
    }
    /// A buffer; `None` is null.
    fn put_buffer(&mut self, v: Option<&[u8]>) {
        match v {
            None => self.put_i32(-1),
            Some(bytes) => {
                self.put_len(bytes.len());
                self.put_raw(bytes);
            }
        }
    }
    /// A string.
    fn put_string(&mut self, v: &str) {
        self.put_buffer(Some(v.as_bytes()));
    }
}

impl Writer for Vec<u8> {
    #[inline]
    fn put_raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_buffers_stay_distinct() {
        let mut out = Vec::new();
        out.put_buffer(None);
        out.put_buffer(Some(b""));
        out.put_string("ab");
        let mut r = Reader::new(&out);
        assert_eq!(r.buffer(), Ok(None));
        assert_eq!(r.buffer(), Ok(Some(&b""[..])));
        assert_eq!(r.string(), Ok("ab"));
        assert!(r.is_empty());
    }

    #[test]
    fn lengths_beyond_the_input_are_refused_before_allocation() {
        for len in [i32::MAX, -2, 5] {
            let mut out = Vec::new();
            out.put_i32(len);
            out.put_raw(b"abc");
            assert_eq!(Reader::new(&out).buffer(), Err(DecodeError::BadLength(len)));
        }
        let mut out = Vec::new();
        out.put_i32(1000);
        assert_eq!(Reader::new(&out).count(1), Err(DecodeError::BadLength(1000)));
    }

    #[test]
    fn string_vec_yields_what_was_written() {
        let mut out = Vec::new();
        out.put_len(2);
        out.put_string("/a");
        out.put_string("/b");
        let v = Reader::new(&out).string_vec().expect("valid");
        assert_eq!(v.iter().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(v.raw(), &out[..]);
    }
}
