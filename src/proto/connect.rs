//! The connect exchange: the first frame each way, without a header.

use crate::base::{DecodeError, Reader, SessionId, Writer};

/// A session password.
pub type Password = [u8; 16];

/// What a client asks for when it connects; owned, since it outlives its frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectRequest {
    /// Highest zxid the client has seen (signed, as sent).
    pub last_zxid_seen: i64,
    /// Wanted session timeout.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: SessionId,
    /// Password; empty when null, any length as sent.
    pub password: Vec<u8>,
    /// Accepts a read-only server.
    pub read_only: bool,
    /// The client sent the trailing flag, so the response carries one too.
    pub has_read_only: bool,
}

impl ConnectRequest {
    /// Asks for a new session, as a client of today that has seen nothing yet.
    #[must_use]
    pub fn new_session(timeout_ms: i32) -> Self {
        ConnectRequest {
            last_zxid_seen: 0,
            timeout_ms,
            session: SessionId::NONE,
            password: vec![0; size_of::<Password>()],
            read_only: false,
            has_read_only: true,
        }
    }

    /// Asks for a session that exists.
    #[must_use]
    pub fn again(session: SessionId, password: &[u8], timeout_ms: i32) -> Self {
        ConnectRequest { session, password: password.to_vec(), ..Self::new_session(timeout_ms) }
    }

    /// Decodes a frame's payload; bytes after the flag are ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        let _protocol_version = r.i32()?;
        let last_zxid_seen = r.i64()?;
        let timeout_ms = r.i32()?;
        let session = SessionId(r.i64()?);
        let password = r.buffer()?.unwrap_or(&[]).to_vec();
        let (read_only, has_read_only) = if r.is_empty() { (false, false) } else { (r.bool()?, true) };
        Ok(ConnectRequest { last_zxid_seen, timeout_ms, session, password, read_only, has_read_only })
    }

    /// The whole frame, length included (for clients).
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_frame(&mut out);
        out
    }

    /// Appends a whole frame, length included (for clients).
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        out.put_len(28 + self.password.len() + usize::from(self.has_read_only));
        out.put_i32(0);
        out.put_i64(self.last_zxid_seen);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        out.put_buffer(Some(&self.password));
        if self.has_read_only {
            out.put_bool(self.read_only);
        }
    }
}

/// The server's answer; all zero when the session is refused or expired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectResponse {
    /// Negotiated timeout; 0 means expired.
    pub timeout_ms: i32,
    /// The session.
    pub session: SessionId,
    /// Its password.
    pub password: Password,
    /// The trailing flag: `None` for clients that did not send theirs.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The refusal: timeout, session and password zero.
    #[must_use]
    pub fn refused(read_only: Option<bool>) -> Self {
        ConnectResponse { timeout_ms: 0, session: SessionId::NONE, password: [0; 16], read_only }
    }
    /// Appends a whole frame, length included.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        out.put_len(36 + usize::from(self.read_only.is_some()));
        out.put_i32(0);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session.0);
        out.put_buffer(Some(&self.password));
        if let Some(flag) = self.read_only {
            out.put_bool(flag);
        }
    }
    /// Decodes a frame's payload (for clients).
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        let _protocol_version = r.i32()?;
        let timeout_ms = r.i32()?;
        let session = SessionId(r.i64()?);
        let password = r.buffer()?.and_then(|p| p.try_into().ok()).ok_or(DecodeError::Truncated)?;
        let read_only = if r.is_empty() { None } else { Some(r.bool()?) };
        Ok(ConnectResponse { timeout_ms, session, password, read_only })
    }
}
