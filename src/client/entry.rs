//! What a program does to a connection before the session uses it, such as TLS; and the connection as the client's thread sees it.

use super::Host;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// What a program makes of a connection: the stream of a TLS library, say. Once it is handed over, reading and writing do not wait but fail with
/// [`io::ErrorKind::WouldBlock`] when the socket below them does; bytes that it keeps back are asked for by `flush`.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Scheme and secret of each identity to be shown, as for `add_auth`.
pub type Credentials = Vec<(String, Vec<u8>)>;

type Wrap = dyn Fn(TcpStream, &Host) -> io::Result<Box<dyn Stream>> + Send + Sync;
type Identify = dyn Fn(&Host) -> io::Result<Credentials> + Send + Sync;

/// The hooks that a client was made with.
#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) wrap: Option<Arc<Wrap>>,
    pub(super) identify: Option<Arc<Identify>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry {{ wraps: {}, identifies: {} }}", self.wrap.is_some(), self.identify.is_some())
    }
}

/// What came of the hooks.
pub(super) struct Entered {
    pub(super) wrapped: Option<Box<dyn Stream>>,
    pub(super) credentials: Credentials,
}

impl Entry {
    pub(super) fn is_free(&self) -> bool {
        self.wrap.is_none() && self.identify.is_none()
    }

    /// Wraps a connection that blocks, or leaves it as it is.
    pub(super) fn wrap(&self, socket: TcpStream, host: &Host) -> io::Result<Box<dyn Stream>> {
        match &self.wrap {
            Some(wrap) => wrap(socket, host),
            None => Ok(Box::new(socket)),
        }
    }

    /// Calls the hooks: for a thread of its own, as they may wait.
    pub(super) fn enter(&self, socket: TcpStream, host: &Host) -> io::Result<Entered> {
        let wrapped = if self.wrap.is_some() { Some(self.wrap(socket, host)?) } else { None };
        let credentials = self.identify.as_ref().map_or(Ok(Vec::new()), |identify| identify(host))?;
        Ok(Entered { wrapped, credentials })
    }
}

/// A connection that hooks are at work on, in another thread. Dropped, it is shut down, so that they do not wait for nothing.
#[derive(Debug)]
pub(super) struct Entering(Option<TcpStream>);

impl Entering {
    pub(super) fn new(socket: TcpStream) -> Self {
        Entering(Some(socket))
    }

    /// They have done their work.
    pub(super) fn finish(mut self, wrapped: Option<Box<dyn Stream>>) -> io::Result<Connection> {
        match self.0.take() {
            Some(socket) => {
                socket.set_nonblocking(true)?;
                Ok(Connection { wrapped, ..Connection::plain(socket) })
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // Where there is no connection any more, nobody waits for it either.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// A connection that does not block.
pub(super) struct Connection {
    /// Also below what it was wrapped in: to wait for.
    pub(super) socket: TcpStream,
    wrapped: Option<Box<dyn Stream>>,
    /// The wrapping may hold bytes that the socket has not taken.
    is_unflushed: bool,
    /// The wrapping may hold bytes that it has taken from the socket and nobody has read.
    is_unread: bool,
}

impl Connection {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Connection { socket, wrapped: None, is_unflushed: false, is_unread: false }
    }

    /// Takes some of `bytes`, or when there are none, what was kept back.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match &mut self.wrapped {
            None => self.socket.write(bytes)?,
            Some(stream) if bytes.is_empty() => {
                stream.flush()?;
                self.is_unflushed = false;
                return Ok(0);
            }
            Some(stream) => {
                self.is_unflushed = true;
                stream.write(bytes)?
            }
        };
        if taken == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) }
    }

    pub(super) fn is_unflushed(&self) -> bool {
        self.is_unflushed
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.wrapped else { return self.socket.read(buffer) };
        // What comes may have to be answered below: new keys, for one.
        self.is_unflushed = true;
        let read = stream.read(buffer);
        self.is_unread = read.is_ok();
        read
    }

    /// Is there nothing left behind a read of `bytes` into a buffer of `of`? Only a socket tells by a buffer that is not full.
    pub(super) fn is_exhausted_by(&self, bytes: usize, of: usize) -> bool {
        self.wrapped.is_none() && bytes < of
    }

    /// Is there perhaps something to read of which the socket knows nothing?
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }
}
