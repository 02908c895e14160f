//! Opening and closing sessions.

use super::Stamp;
use crate::base::jute::StringVec;
use crate::base::{SessionId, Writer};
use crate::tree::{Effects, Tree};

impl Tree {
    pub(in crate::tree) fn apply_create_session(&mut self, stamp: &Stamp, timeout_ms: i32) {
        self.sessions.open(stamp.session, timeout_ms, &mut self.undo);
    }

    /// Ends the session and deletes the listed nodes, in the list's order, then what else it owns here (rule L9: the list decides, the own
    /// table only adds what the list does not know).
    pub(in crate::tree) fn apply_close_session(&mut self, stamp: &Stamp, paths: Option<StringVec<'_>>, effects: &mut Effects) {
        self.sessions.close(stamp.session, &mut self.undo);
        let left = self.left_behind();
        for path in paths.iter().flat_map(StringVec::iter).skip(left) {
            self.apply_delete(stamp, path, effects);
        }
        for path in self.ephemerals(stamp.session).into_iter().skip(left) {
            self.apply_delete(stamp, &path, effects);
        }
        effects.closed_session = Some(stamp.session);
    }

    /// Ephemerals that a session leaves: none, but for a planted bug.
    fn left_behind(&self) -> usize {
        #[cfg(feature = "planted-bugs")]
        return usize::from(self.config.forgets_an_ephemeral);
        #[cfg(not(feature = "planted-bugs"))]
        0
    }

    /// Appends the list of a session's ephemerals, sorted, in-flight changes included. A list too long for one record is cut: every
    /// server then deletes the rest from its own table.
    pub(in crate::tree) fn write_ephemerals(&self, session: SessionId, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_i32(0);
        let mut count = 0i32;
        for path in self.ephemerals(session) {
            if out.len() - start + 4 + path.len() > self.config.payload_bytes_max / 2 {
                break;
            }
            out.put_string(&path);
            count += 1;
        }
        out[start..start + 4].copy_from_slice(&count.to_be_bytes());
    }
}
