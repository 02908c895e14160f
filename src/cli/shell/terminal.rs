//! Lines typed at a terminal: editing, history, completion of commands and paths. What was typed is not kept on disk: it may hold credentials.

use super::{Shell, commands};
use crate::client::ZooClient;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::time::Duration;

/// How long completion may wait for a server.
const COMPLETION_PATIENCE: Duration = Duration::from_secs(1);

/// Completes the last word: a path by asking a server, anything else as a command.
struct Completion {
    client: Option<ZooClient>,
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..position];
        let start = typed.rfind(' ').map_or(0, |at| at + 1);
        let names = match typed[start..].rfind('/') {
            Some(slash) if typed[start..].starts_with('/') => {
                let slash = start + slash;
                let (parent, begun) = (if slash == start { "/" } else { &typed[start..slash] }, &typed[slash + 1..]);
                return Ok((slash + 1, pairs(self.children(parent).iter().map(String::as_str), begun)));
            }
            _ => commands::names(),
        };
        Ok((start, pairs(names, &typed[start..])))
    }
}

fn pairs<'n>(names: impl Iterator<Item = &'n str>, begun: &str) -> Vec<Pair> {
    let begins = names.filter(|name| name.starts_with(begun));
    begins.map(|name| Pair { display: name.to_owned(), replacement: name.to_owned() }).collect()
}

impl Completion {
    /// Sorted; none when there is no such node, or no answer in time.
    fn children(&self, parent: &str) -> Vec<String> {
        let Some(client) = &self.client else { return Vec::new() };
        let answer = client.pipelined().children(parent).wait_for(COMPLETION_PATIENCE);
        let mut names = answer.and_then(Result::ok).map(|(names, _)| names).unwrap_or_default();
        names.sort_unstable();
        names
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

/// Reads and carries out lines until the terminal ends or one says quit.
pub(super) fn read(shell: &mut Shell) -> Result<(), String> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let history = MemHistory::with_config(&config);
    let mut editor: Editor<Completion, MemHistory> = Editor::with_history(config, history).map_err(|e| format!("the terminal: {e}"))?;
    if let Ok(printer) = editor.create_external_printer() {
        shell.screen.set_printer(Box::new(printer));
    }
    while !shell.has_quit {
        editor.set_helper(Some(Completion { client: shell.client.clone() }));
        match editor.readline(&shell.prompt()) {
            Ok(line) => shell.line(&line),
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(format!("the terminal: {e}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_no_paths_are_completed_as_commands() {
        let history = MemHistory::new();
        let complete = |line: &str| {
            let completion = Completion { client: None };
            let (start, found) = completion.complete(line, line.len(), &Context::new(&history)).expect("an answer");
            (start, found.into_iter().map(|pair| pair.replacement).collect::<Vec<_>>())
        };
        assert_eq!(complete("getA"), (0, vec!["getAcl".to_owned(), "getAllChildrenNumber".to_owned()]));
        assert_eq!(complete("ls /zoo"), (4, vec![]));
    }
}
