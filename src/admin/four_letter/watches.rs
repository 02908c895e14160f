//! `wchs`, `wchc` and `wchp`: data watches as a sum, by session, by path.

use crate::admin::report::AdminView;
use std::fmt::Write as _;

pub(super) fn wchs(view: &AdminView) -> String {
    let by_path = view.watches_by_path();
    let (sessions, total) = (view.watches_by_session().len(), by_path.values().map(Vec::len).sum::<usize>());
    let partial = super::incomplete(view);
    format!("{sessions} connections watching {} paths\nTotal watches:{total}\n{partial}", by_path.len())
}

pub(super) fn wchc(view: &AdminView) -> String {
    let mut out = String::new();
    for (session, paths) in view.watches_by_session() {
        let _ = writeln!(out, "{session}");
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }
    out + &super::incomplete(view) + "\n"
}

pub(super) fn wchp(view: &AdminView) -> String {
    let mut out = String::new();
    for (path, sessions) in view.watches_by_path() {
        let _ = writeln!(out, "{path}");
        for session in sessions {
            let _ = writeln!(out, "\t{session}");
        }
    }
    out + &super::incomplete(view) + "\n"
}
