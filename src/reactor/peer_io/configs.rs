//! The files of the configuration, written one after the other off the reactor.

use super::Events;
use super::queue::LocalQueue;
use crate::reactor::on_thread;
use crate::zab::{ConfigToken, ConfigWrite, Input};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Where a server keeps the configuration; blocking.
pub trait ConfigFiles: Send + Sync {
    /// Makes this what the next start finds.
    fn write(&self, write: &ConfigWrite) -> io::Result<()>;
}

/// One write that is wanted.
pub struct WantedConfig {
    /// To be given back.
    pub token: ConfigToken,
    /// What.
    pub write: ConfigWrite,
}

/// Writes what is asked for until the task is dropped. A failure is said and no more, as with ZooKeeper: many a configuration file may not be
/// written by its server, and what a transaction has proposed is found in the history at the next start (`Stored::configuration`).
pub async fn write_configs(files: Option<Arc<dyn ConfigFiles>>, wanted: Rc<LocalQueue<WantedConfig>>, events: Rc<Events>) {
    loop {
        let WantedConfig { token, write } = wanted.next().await;
        if let Some(files) = files.clone() {
            let written = on_thread("zoo-config", move || files.write(&write)).await;
            if let Err(e) = written.and_then(|written| written) {
                tracing::error!("the configuration could not be written; after a restart this server will know an older one: {e}");
            }
        }
        events.calls.push(Input::ConfigWritten(token));
    }
}
