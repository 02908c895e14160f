//! `zoo status --stages`: where requests spend their time on each server, by what it says to `mntr`.

use crate::metrics::STAGES;
use serde_json::{Value, json};

/// What is shown of a stage, as `mntr` begins the names of its lines.
const SHOWN: [&str; 5] = ["cnt", "p50", "p99", "p999", "max"];

/// What one server has said about its stages.
pub(super) struct Stages<'a>(&'a str);

impl<'a> Stages<'a> {
    /// `answer` is that to `mntr`; why there is nothing to show, if so.
    pub(super) fn of(answer: &'a str) -> Result<Self, String> {
        let stages = Stages(answer);
        if stages.rows().any(|(_, row)| row.iter().any(Option::is_some)) {
            return Ok(stages);
        }
        let said = answer.lines().next().unwrap_or("nothing");
        Err(format!("it says to mntr: {said} (4lw.commands.whitelist has to allow mntr; only zoo has stages)"))
    }

    fn value(&self, prefix: &str, name: &str) -> Option<u64> {
        let is = |line: &str| {
            Some(line.strip_prefix("zk_")?.strip_prefix(prefix)?.strip_prefix('_')?.strip_prefix(name)?.trim_start().to_owned())
        };
        self.0.lines().find_map(|line| is(line)?.parse().ok())
    }

    fn rows(&self) -> impl Iterator<Item = ((&'static str, &'static str), [Option<u64>; SHOWN.len()])> {
        STAGES.iter().map(|stage| (*stage, SHOWN.map(|prefix| self.value(prefix, stage.0))))
    }

    /// A line for each stage that something has gone through.
    pub(super) fn text(&self) -> String {
        let head = format!("  {:>9}  {:>8}  {:>8}  {:>8}  {:>8}  µs", "count", "p50", "p99", "p99.9", "max");
        let lines = self.rows().filter(|(_, row)| row[0] != Some(0)).map(|((_, what), row)| {
            let [count, rest @ ..] = row.map(|value| value.map_or_else(|| "-".to_owned(), |value| value.to_string()));
            let rest = rest.map(|value| format!("{value:>8}")).join("  ");
            format!("  {count:>9}  {rest}  {what}")
        });
        std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let fields =
            |row: [Option<u64>; SHOWN.len()]| SHOWN.iter().zip(row).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        self.rows().map(|((name, _), row)| (name.to_owned(), Value::Object(fields(row)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "zk_version\t3.9.4\nzk_avg_zoo_turn_us\t7.5\nzk_max_zoo_turn_us\t90\nzk_cnt_zoo_turn_us\t12\nzk_p50_zoo_turn_us\t5\n\
        zk_p99_zoo_turn_us\t80\nzk_p999_zoo_turn_us\t90\nzk_cnt_zoo_answer_to_sent_us\t0\n";

    #[test]
    fn stages_through_which_something_went_are_shown() {
        let stages = Stages::of(ANSWER).expect("stages");
        let text = stages.text();
        let turn = text.lines().find(|line| line.contains("one turn")).expect("a line");
        assert!(turn.starts_with("         12         5        80        90        90  shard: one turn"), "{turn}");
        assert!(!text.contains("given to the kernel"), "nothing was: {text}");
        let json = stages.json();
        assert_eq!(json["zoo_turn_us"], json!({ "cnt": 12, "p50": 5, "p99": 80, "p999": 90, "max": 90 }));
        assert_eq!(json["zoo_prepare_to_durable_us"]["p50"], Value::Null);
    }

    #[test]
    fn a_server_that_tells_no_stages_is_quoted() {
        for answer in ["mntr is not executed because it is not in the whitelist.\n", "zk_version\t3.9.4\n", ""] {
            let why = Stages::of(answer).err().expect("nothing to show");
            assert!(why.contains("whitelist has to allow mntr") && why.contains(answer.lines().next().unwrap_or("nothing")), "{why}");
        }
    }
}
