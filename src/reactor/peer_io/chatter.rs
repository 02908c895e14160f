//! A bound on what strangers and troubled peers can make this server print (S9).

use crate::base::Instant;
use std::cell::Cell;

/// Lines in one window; the rest is counted.
const LINES_MAX: u32 = 30;
/// Length of a window.
const WINDOW_MS: u64 = 10_000;

/// Lines printed lately.
#[derive(Default)]
pub struct Chatter {
    since: Cell<Instant>,
    lines: Cell<u32>,
}

impl Chatter {
    /// Prints a line, unless there have been many.
    pub fn say(&self, now: Instant, line: impl FnOnce()) {
        if now.since_ms(self.since.get()) >= WINDOW_MS {
            let unsaid = self.lines.get().saturating_sub(LINES_MAX);
            if unsaid > 0 {
                tracing::warn!("{unsaid} more messages about other servers were not printed");
            }
            self.since.set(now);
            self.lines.set(0);
        }
        self.lines.set(self.lines.get().saturating_add(1));
        if self.lines.get() <= LINES_MAX {
            line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_until_the_next_window() {
        let (chatter, said) = (Chatter::default(), Cell::new(0));
        let say = |ms| chatter.say(Instant(0).plus_ms(ms), || said.set(said.get() + 1));
        (0..1000).for_each(|_| say(WINDOW_MS));
        assert_eq!(said.get(), LINES_MAX);
        say(2 * WINDOW_MS);
        assert_eq!(said.get(), LINES_MAX + 1);
    }
}
