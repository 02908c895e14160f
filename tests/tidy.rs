//! The rules of `ARCHITECTURE.md` that a compiler does not check: who may name whom, what the pure cores must not touch, where `unsafe`
//! may be, names, sizes, and what must not be left in the text.
//!
//! Works on the text of the sources with comments and literals blanked out; production code is looked at without its test modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Layer by layer: a module and the modules of ours it may name. `admin` has rules of its own below.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("proto", &["base"]),
    ("record", &["base"]),
    ("handoff", &["base"]),
    ("disk", &["base"]),
    ("metrics", &["base"]),
    ("balance", &["base"]),
    ("tree", &["base", "proto", "record"]),
    ("storage", &["base", "record"]),
    ("zab", &["base", "record"]),
    ("conn", &["base", "proto"]),
    ("replica", &["base", "balance", "proto", "record", "tree", "storage", "zab", "handoff"]),
    ("shard", &["base", "proto", "record", "tree", "conn", "handoff", "metrics"]),
    ("admin", &["base", "metrics"]),
    (
        "reactor",
        &[
            "base", "balance", "proto", "record", "tree", "storage", "zab", "conn", "handoff", "disk", "replica", "shard", "admin",
            "metrics",
        ],
    ),
    (
        "server",
        &[
            "base", "balance", "proto", "record", "tree", "storage", "zab", "conn", "handoff", "disk", "replica", "shard", "admin",
            "reactor",
        ],
    ),
    ("client", &["base", "proto"]),
    ("recipes", &["base", "client"]),
    ("cli", &["base", "metrics", "balance", "proto", "record", "tree", "storage", "disk", "admin", "server", "client", "recipes"]),
];
/// Names beyond the layers: one file, what it may name besides.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("src/handoff/message.rs", "proto"), // what shards and replica tell each other is made of requests and errors
    ("src/admin/report.rs", "shard"),    // plain report structs, nothing else of them
    ("src/admin/report.rs", "replica"),
    ("src/admin/four_letter/clients.rs", "shard"),
    ("src/admin/four_letter/tests.rs", "shard"),
    ("src/admin/four_letter/tests.rs", "replica"),
    ("src/admin/four_letter/server.rs", "replica"),
    ("src/admin/four_letter/tests.rs", "tree"),
    ("src/admin/four_letter/tests.rs", "zab"),
];
/// Deterministic modules: everything they know comes in by arguments.
const CORES: &[&str] = &["base", "record", "proto", "tree", "storage", "zab", "conn", "replica", "shard", "balance"];
/// What a core must not name.
const IMPURE: &[&str] = &[
    "std::time",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "thread_local!",
    "Mutex",
    "RwLock",
    "Condvar",
    "OnceLock",
    "LazyLock",
    "static mut",
    "std::fs",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "async fn",
    "async move",
    "async {",
    "RandomState",
    "HashMap::new(",
    "HashSet::new(",
    "HashMap::with_capacity(",
    "HashSet::with_capacity(",
];
/// Lock-free structures, which stay deterministic when driven from one thread.
const ATOMICS: &[&str] = &["std::sync::atomic", "core::sync::atomic", "crossbeam", "loom::"];
const ATOMICS_IN: &[&str] = &["src/tree/store/", "src/handoff/"];
/// What single files may name besides: the naive twin of the cells is built from locks, and the cells park what outlives their writer.
const IMPURE_EXCEPTIONS: &[(&str, &str)] =
    &[("src/tree/store/plain.rs", "RwLock"), ("src/tree/store/plain.rs", "HashMap<"), ("src/tree/store/cells/mod.rs", "OnceLock")];
const UNSAFE_IN: &[&str] = &["src/disk/", "src/handoff/", "src/tree/store/", "src/reactor/"];
/// A file, tests included.
const LINES_MAX: usize = 1_000;
/// Lines above an `unsafe` in which its reason must be given.
const SAFETY_LINES: usize = 12;
const FILE_NAMES_BANNED: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];
const LEFTOVERS: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// Paths of the machines this was written on; in pieces, so that this file passes.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/tm", "p/w/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

#[test]
fn modules_name_only_the_layers_below_them() {
    let mut offences = Vec::new();
    for source in sources("src") {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            offences.push(format!("{}: module {module} has no place in the layers", source.name));
            continue;
        };
        for named in source.modules_named("crate") {
            let excepted = EXCEPTIONS.contains(&(source.name.as_str(), named.as_str()));
            if named != module && !allowed.contains(&named.as_str()) && !excepted {
                offences.push(format!("{}: {module} may not name {named}", source.name));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn the_load_generator_knows_only_the_vocabulary_and_the_protocol() {
    let loadgen = sources("loadgen/src");
    let offence = |s: &Source| {
        let named: Vec<_> = s.modules_named("zoo").into_iter().filter(|m| !["base", "proto", "client"].contains(&m.as_str())).collect();
        (!named.is_empty()).then(|| format!("{}: names {named:?}", s.name))
    };
    assert_none(&loadgen.iter().filter_map(offence).collect::<Vec<_>>());
}

#[test]
fn cores_touch_no_clock_thread_lock_file_socket_or_environment() {
    let mut offences = Vec::new();
    for source in sources("src").iter().filter(|s| s.module().is_some_and(|m| CORES.contains(&m)) && !s.is_test) {
        let atomics_allowed = ATOMICS_IN.iter().any(|place| source.name.starts_with(place));
        let excepted = |word: &str| IMPURE_EXCEPTIONS.contains(&(source.name.as_str(), word));
        let banned = IMPURE.iter().chain(ATOMICS.iter().filter(|_| !atomics_allowed)).filter(|word| !excepted(word));
        for (n, line) in source.production_lines() {
            offences.extend(banned.clone().filter(|word| names(line, word)).map(|word| format!("{}:{n}: {word}", source.name)));
        }
        if !excepted("HashMap<") {
            offences.extend(source.default_hashers().into_iter().map(|n| format!("{}:{n}: hash table without a seed", source.name)));
        }
    }
    assert_none(&offences);
}

#[test]
fn runtime_and_memory_maps_are_named_in_one_place_each() {
    let mut offences = Vec::new();
    for source in sources("src") {
        for (word, place) in [("glommio", "src/reactor/"), ("memmap2", "src/disk/")] {
            if !source.name.starts_with(place) && source.code.lines().any(|line| names(line, word)) {
                offences.push(format!("{}: names {word}", source.name));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn unsafe_code_is_in_four_places_and_says_why_it_is_sound() {
    let mut offences = Vec::new();
    for source in sources("src") {
        let text: Vec<&str> = source.text.lines().collect();
        for (n, line) in source.code.lines().enumerate().filter(|(_, line)| names(line, "unsafe")) {
            if !UNSAFE_IN.iter().any(|place| source.name.starts_with(place)) {
                offences.push(format!("{}:{}: unsafe", source.name, n + 1));
            }
            let reasons = &text[n.saturating_sub(SAFETY_LINES)..=n];
            let is_fn_type = line.contains("unsafe fn(");
            if !is_fn_type && !reasons.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety")) {
                offences.push(format!("{}:{}: unsafe without SAFETY", source.name, n + 1));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn every_source_says_what_it_is_and_stays_readable() {
    let mut offences = Vec::new();
    for source in ["src", "tests", "benches", "examples", "loadgen/src"].into_iter().flat_map(sources) {
        if !source.text.starts_with("//!") && !source.is_test {
            offences.push(format!("{}: no module header", source.name));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            offences.push(format!("{}: {lines} lines", source.name));
        }
        let stem = Path::new(&source.name).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if FILE_NAMES_BANNED.contains(&stem) {
            offences.push(format!("{}: name the concept, not the drawer", source.name));
        }
        for (n, line) in source.code.lines().enumerate() {
            offences.extend(LEFTOVERS.iter().filter(|w| names(line, w)).map(|w| format!("{}:{}: {w}", source.name, n + 1)));
        }
    }
    assert_none(&offences);
}

/// Every path in backquotes that looks like one of ours, and every test that is named, must exist.
/// Without the usual harness the compiler drops such a function without a word.
#[test]
fn programs_of_their_own_list_their_tests_and_mark_none() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut targets = manifest.split("[[").filter(|target| target.starts_with("test]]") && target.contains("harness = false"));
    let names: Vec<&str> = targets.by_ref().filter_map(|target| target.split('"').nth(1)).collect();
    assert!(names.contains(&"sim"), "{names:?}");
    let tests = sources("tests");
    let is_of = |s: &Source, name: &str| s.name == format!("tests/{name}.rs") || s.name.starts_with(&format!("tests/{name}/"));
    let marked = tests.iter().filter(|s| names.iter().any(|name| is_of(s, name)) && s.code.contains("#[test]"));
    assert_none(&marked.map(|s| format!("{}: #[test]", s.name)).collect::<Vec<_>>());
}

#[test]
fn the_architecture_page_names_only_what_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page");
    let all: String = ["src", "tests"].into_iter().flat_map(sources).map(|s| s.text).collect();
    let mut offences = Vec::new();
    for (n, line) in page.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/') && name.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-".contains(c));
            let exists = |base: &str| ["", ".rs", "/mod.rs"].iter().any(|end| root().join(base).join(format!("{name}{end}")).exists());
            if is_path && !["", "src"].into_iter().any(exists) {
                offences.push(format!("{}: {name}", n + 1));
            }
            let is_test = name.matches('_').count() >= 4 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_test && !all.contains(&format!("fn {name}(")) {
                offences.push(format!("{}: no test {name}", n + 1));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn no_text_names_a_path_of_one_machine_or_holds_half_a_merge() {
    let mut files = Vec::new();
    collect(&root(), &mut files, &["rs", "md", "toml", "sh", "py", "txt", "cfg"]);
    let mut offences = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (n, line) in text.lines().enumerate() {
            offences.extend(MACHINE_PATHS.iter().filter(|p| line.contains(**p)).map(|p| format!("{}:{}: {p}", file.display(), n + 1)));
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                offences.push(format!("{}:{}: {line}", file.display(), n + 1));
            }
        }
    }
    assert_none(&offences);
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All sources below a directory of the repository; none when it does not exist.
fn sources(below: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join(below), &mut files, &["rs"]);
    files.sort();
    let test_files: BTreeSet<PathBuf> = files.iter().flat_map(|f| test_modules(f)).collect();
    let named_so = |f: &PathBuf| f.to_string_lossy().ends_with("_tests.rs") || f.components().any(|part| part.as_os_str() == "tests");
    let is_test = |f: &PathBuf| test_files.contains(f) || named_so(f);
    files.iter().map(|f| Source::read(f, is_test(f))).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>, extensions: &[&str]) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(Result::ok).map(|e| e.path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, files, extensions);
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)) {
            files.push(path);
        }
    }
}

/// Files that this one declares as modules for tests only.
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let code = blank(&fs::read_to_string(file).unwrap_or_default());
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = code[at + "#[cfg(test)]".len()..].trim_start();
        let declared = rest.strip_prefix("mod ").and_then(|r| r.split_once(';')).map(|(name, _)| name.trim());
        if let Some(name) = declared.filter(|n| n.chars().all(|c| c.is_alphanumeric() || c == '_')) {
            let dir = match file.file_name().and_then(|n| n.to_str()) {
                Some("mod.rs" | "lib.rs" | "main.rs") => file.parent().map(Path::to_path_buf).unwrap_or_default(),
                _ => file.with_extension(""),
            };
            found.push(dir.join(format!("{name}.rs")));
        }
    }
    found
}

/// One file.
struct Source {
    /// Path from the root of the repository.
    name: String,
    text: String,
    /// The text with comments and literals blanked out.
    code: String,
    /// Compiled for tests only.
    is_test: bool,
}

impl Source {
    fn read(file: &Path, is_test: bool) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = file.strip_prefix(root()).unwrap_or(file).display().to_string();
        Source { code: blank(&text), name, text, is_test }
    }

    /// The top-level module of `src` it belongs to; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let path = self.name.strip_prefix("src/")?;
        path.split_once('/').map(|(module, _)| module)
    }

    /// Top-level modules it names by a path from `krate`, or by climbing there with `super`.
    fn modules_named(&self, krate: &str) -> BTreeSet<String> {
        let mut named = heads_of_paths(&self.code, krate);
        let depth = self.name.matches('/').count() - usize::from(self.name.ends_with("/mod.rs"));
        // Inside `mod tests { … }` one more `super` is needed, so a climb by `depth` may stop at the top-level module: harmless.
        named.extend(heads_of_paths(&self.code, &vec!["super"; depth.max(1)].join("::")).into_iter().filter(|m| is_layer(m)));
        named
    }

    /// Numbered lines outside `#[cfg(test)] mod … { … }`: such a module ends at the first bracket as far left as its beginning.
    fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut in_tests = false;
        let mut previous = "";
        self.code.lines().enumerate().filter_map(move |(n, line)| {
            in_tests |= previous == "#[cfg(test)]" && line.contains("mod ") && line.ends_with('{');
            previous = line;
            let production = !in_tests;
            in_tests &= line != "}";
            production.then_some((n + 1, line))
        })
    }

    /// Lines that use a hash table type without naming its hasher.
    fn default_hashers(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        for (n, line) in self.production_lines() {
            for (table, parameters) in [("HashMap<", 3), ("HashSet<", 2)] {
                for (at, _) in line.match_indices(table) {
                    if generic_arguments(&line[at + table.len()..]).is_some_and(|count| count < parameters) {
                        lines.push(n);
                    }
                }
            }
        }
        lines
    }
}

fn is_layer(name: &str) -> bool {
    LAYERS.iter().any(|(layer, _)| *layer == name)
}

/// Counts generic arguments up to the closing bracket; none when the list goes on in the next line.
fn generic_arguments(text: &str) -> Option<usize> {
    let (mut depth, mut count) = (0, 1);
    for c in text.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if depth == 0 => return Some(count),
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => count += 1,
            _ => {}
        }
    }
    None
}

/// The identifiers that directly follow `<prefix>::`, groups in braces included.
fn heads_of_paths(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut heads = BTreeSet::new();
    let pattern = format!("{prefix}::");
    for (at, _) in code.match_indices(&pattern) {
        let whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &code[at + pattern.len()..];
        if !whole_word {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => heads.extend(group_heads(group)),
            None => heads.extend(identifier(rest)),
        }
    }
    heads
}

/// The first identifier of each element of a `use` group, whose opening brace is already consumed.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut expected) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            c if depth == 0 && expected && !c.is_whitespace() => {
                heads.extend(identifier(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// True when `line` has `word` not as a part of a longer identifier.
fn names(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_ended = !word.ends_with(part_of_name);
        !before.is_some_and(part_of_name) && (open_ended || !after.is_some_and(part_of_name))
    })
}

/// The text with comments, strings and character literals replaced by blanks; line breaks stay.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let get = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let in_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (get(at), get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if !in_name || get(at - 1) == 'b' => raw_string_end(chars, at + 1).unwrap_or(at),
        ('\'', '\\') => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    let end = (from + hashes + 1..chars.len()).find(|i| closes(*i))?;
    Some(end + 1 + hashes)
}

#[test]
fn these_checks_see_through_comments_literals_and_groups() {
    let text = "// use crate::server;\nuse crate::{base::X, proto::{Y, tree}, r#\"crate::cli\"#};\nlet s = \"crate::admin \\\" unsafe\"; 'x'; '\\'';\n\
        /* a /* b */ crate::disk */ fn f<'a>() { crate::shard::g() }\n";
    let code = blank(text);
    assert_eq!(heads_of_paths(&code, "crate"), ["base", "proto", "shard"].map(str::to_owned).into());
    assert!(!code.contains("unsafe") && code.contains("fn f<'a>()"));
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(names("let m = Mutex::new()", "Mutex") && !names("let m = MyMutex", "Mutex") && names("x HashMap::new()", "HashMap::new("));
    assert_eq!(generic_arguments("K, Vec<(A, B)>>"), Some(2));
    assert_eq!(generic_arguments("K, V, S>"), Some(3));
}
