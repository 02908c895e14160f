//! Where results, remarks and events are written: results to standard output, everything else beside it.

use super::answer::Answer;
use crate::cli::{Format, logging, say};
use crate::client::{EventType, Notice, SessionState, WatchedEvent};
use rustyline::ExternalPrinter;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

type Beside = Box<dyn ExternalPrinter + Send>;

/// The user's side; events come to it from a thread of their own.
pub(super) struct Screen {
    format: Format,
    shows_events: AtomicBool,
    /// Writes above the line that is being typed, where there is one.
    beside: Mutex<Option<Beside>>,
}

impl Screen {
    pub(super) fn new(format: Format) -> Self {
        Screen { format, shows_events: AtomicBool::new(true), beside: Mutex::new(None) }
    }

    /// From now on there is a line that is being typed.
    pub(super) fn set_printer(&self, printer: Beside) {
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some(printer);
    }

    pub(super) fn shows_events(&self) -> bool {
        self.shows_events.load(Relaxed)
    }

    pub(super) fn show_events(&self, yes: bool) {
        self.shows_events.store(yes, Relaxed);
    }

    /// For people only.
    pub(super) fn banner(&self, line: &str) {
        if self.format == Format::Text {
            say(line);
        }
    }

    /// One path of many, as soon as it is known: for people only, programs get all of them together.
    pub(super) fn path(&self, path: &str) -> bool {
        if self.format == Format::Text {
            say(path);
        }
        self.format == Format::Text
    }

    pub(super) fn show(&self, answer: &Answer) {
        match (self.format, answer) {
            (Format::Json, answer) => say(&answer.json().to_string()),
            (Format::Text, Answer::Remark(text, _)) => self.remark(text),
            (Format::Text, answer) => {
                if let Some(text) = answer.text() {
                    say(&text);
                }
            }
        }
    }

    /// Something beside the result.
    pub(super) fn remark(&self, text: &str) {
        if self.format == Format::Text {
            eprintln!("{text}");
        }
    }

    /// Why there is no result.
    pub(super) fn complain(&self, why: &str) {
        match self.format {
            Format::Text => why.lines().for_each(|line| eprintln!("{}", logging::escape(line.as_bytes()))),
            Format::Json => eprintln!("{}", json!({ "error": why })),
        }
    }

    /// Something that nobody has just asked for.
    pub(super) fn notice(&self, notice: &Notice) {
        match notice {
            Notice::State(state) => {
                if let Some(state) = state_name(*state) {
                    self.event(state, "None", None, None);
                }
            }
            Notice::Event(WatchedEvent { kind, path, zxid }) => self.event("SyncConnected", event_name(*kind), Some(path), *zxid),
        }
    }

    /// `zxid` is not known of events that were missed, and of what is no transaction.
    pub(super) fn event(&self, state: &str, kind: &str, path: Option<&str>, zxid: Option<i64>) {
        if !self.shows_events() {
            return;
        }
        let text = match self.format {
            Format::Text => {
                let (path, zxid) = (path.unwrap_or("null"), zxid.unwrap_or(-1));
                format!("\nWATCHER::\n\nWatchedEvent state:{state} type:{kind} path:{path} zxid: {zxid}")
            }
            Format::Json => event_json(state, kind, path, zxid).to_string(),
        };
        match self.beside.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // A terminal that is gone is noticed by whoever reads from it.
            Some(printer) => drop(printer.print(text + "\n")),
            None => say(&text),
        }
    }
}

/// An event for programs.
pub(in crate::cli) fn event_json(state: &str, kind: &str, path: Option<&str>, zxid: Option<i64>) -> Value {
    json!({ "event": { "state": state, "type": kind, "path": path, "zxid": zxid.map(|zxid| format!("0x{zxid:x}")) } })
}

/// Java's word for a state; a session that has never been connected has none.
fn state_name(state: SessionState) -> Option<&'static str> {
    Some(match state {
        SessionState::Connecting => return None,
        SessionState::Connected => "SyncConnected",
        SessionState::ConnectedReadOnly => "ConnectedReadOnly",
        SessionState::Suspended => "Disconnected",
        SessionState::Expired => "Expired",
        SessionState::AuthFailed => "AuthFailed",
        SessionState::Closed => "Closed",
    })
}

/// Java's word for an event.
pub(in crate::cli) fn event_name(kind: EventType) -> &'static str {
    match kind {
        EventType::NodeCreated => "NodeCreated",
        EventType::NodeDeleted => "NodeDeleted",
        EventType::NodeDataChanged => "NodeDataChanged",
        EventType::NodeChildrenChanged => "NodeChildrenChanged",
    }
}
