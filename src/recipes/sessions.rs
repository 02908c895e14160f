//! Sessions one after another, for what has to outlive them.

use super::Error;
use crate::client::{self, Builder, SessionState, ZooClient, lock};
use std::sync::{Arc, Mutex};

/// One session at a time for all recipes that share this: when it has expired, the next one who asks gets a new one. Clones are the same.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    builder: Builder,
    current: Mutex<Option<ZooClient>>,
}

impl Sessions {
    /// Sessions made so. Nothing is connected before somebody asks.
    #[must_use]
    pub fn new(builder: Builder) -> Self {
        Sessions(Arc::new(Inner { builder, current: Mutex::new(None) }))
    }

    /// The session in force, or a new one if that has expired. It may not be connected yet: calls wait for that themselves.
    /// Whatever else has ended it, refused credentials or `close`, ends all of them.
    pub fn current(&self) -> Result<ZooClient, Error> {
        let mut current = lock(&self.0.current);
        let ended = match &*current {
            Some(client) => match client.state() {
                SessionState::Expired => current.take(),
                SessionState::AuthFailed => return Err(client::Error::AuthFailed.into()),
                SessionState::Closed => return Err(client::Error::Closed.into()),
                _ => return Ok(client.clone()),
            },
            None => None,
        };
        let client = self.0.builder.clone().start()?;
        *current = Some(client.clone());
        drop(current);
        drop(ended);
        Ok(client)
    }

    /// Closes the session in force, and with it everything that was made with these.
    pub fn close(&self) -> Result<(), Error> {
        Ok(self.current()?.close()?)
    }
}
