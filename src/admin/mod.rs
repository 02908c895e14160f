//! What operators see: plain reports gathered from shards and replica, formatted as ZooKeeper's four-letter words.
//!
//! Knows no socket and no queue: the reactor gathers an [`AdminView`] (rule B4) and sends the text of the [`four_letter::Answer`].
//! Only `process` reads the machine, and only when a word needs it.

pub mod four_letter;
pub mod java_text;
pub mod process;
pub mod report;
pub mod version;

pub use four_letter::{Answer, Needs, Whitelist};
pub use process::ProcessFacts;
pub use report::{AdminView, DirectorySizes, MemberFacts, ServerFacts};
