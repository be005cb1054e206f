//! What is written about glbd keeps up with what it does.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::glbd;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything below a directory whose name ends so.
fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files_below(&project().join("docs"), ".md");
    pages.push(project().join("README.md"));
    pages
}

/// The top-level modules in the order of README's map.
fn rooms() -> Vec<String> {
    let readme = read(&project().join("README.md"));
    let map = readme.split("A room uses only what stands below it").nth(1).expect("README has a map of the rooms");
    let lines = map.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
    let name = |line: &str| line.split_whitespace().next().expect("a name").trim_end_matches('/').replace(".rs", "");
    lines.map(name).collect()
}

/// The top-level module that a file belongs to.
fn room_of(path: &Path) -> String {
    let below = path.strip_prefix(project().join("src")).expect("a file below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file, without the tests at its end.
fn code_of(path: &Path) -> String {
    read(path).split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

#[test]
fn every_room_uses_only_what_stands_below_it() {
    let rooms = rooms();
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let is_for_tests = |path: &Path| {
        let text = path.to_string_lossy();
        text.contains("/tests") || text.contains("/fuzz") || text.contains("/model/") || text.ends_with("/lib.rs")
    };
    let mut uses = 0;
    for path in files_below(&project().join("src"), ".rs").iter().filter(|path| !is_for_tests(path)) {
        let own = room_of(path);
        let own_place = place(&own).unwrap_or_else(|| panic!("{own} is not in README's map"));
        // A program of its own, which speaks with the daemon and shares nothing with it.
        if own == "glbctl" {
            assert!(!code_of(path).contains("glbd::"), "{} uses the daemon's library", path.display());
            continue;
        }
        for used in code_of(path).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let is_below = used == own || place(&used).is_some_and(|place| place > own_place);
            assert!(is_below, "{} uses {used}, which does not stand below {own} in README's map", path.display());
            uses += 1;
        }
    }
    assert!(uses > 100, "the uses were not found: {uses}");
}

#[test]
fn every_log_line_is_in_the_table_of_log_lines() {
    let operations = read(&project().join("docs/operations.md"));
    let rows: Vec<&str> = operations.lines().filter(|line| line.starts_with('|')).collect();
    let sources: Vec<String> = files_below(&project().join("src"), ".rs").iter().map(|path| read(path)).collect();
    let lines: Vec<String> = sources.iter().flat_map(|source| log_lines(source)).collect();
    assert!(lines.iter().any(|line| line == "stopped") && lines.len() > 100, "log lines are found: {lines:?}");
    let missing: Vec<&String> = lines.iter().filter(|line| !rows.iter().any(|row| shows(row, line))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain: {missing:#?}");
}

/// The texts that a source file logs, as they stand there.
fn log_lines(source: &str) -> Vec<String> {
    let calls = ["info!(", "warn!(", "error!(", "debug!(", "say_last("];
    // Fields may stand before the text.
    let text = |rest: &'_ str| {
        let (fields, _) = rest.split_once('"')?;
        let has_text = fields.trim().is_empty() || fields.trim_end().ends_with([';', ',']) && !fields.contains('}');
        has_text.then(|| rest[fields.len() + 1..].to_owned())
    };
    let behind = |call| source.split(call).skip(1).filter_map(text);
    let texts = calls.into_iter().flat_map(behind).filter_map(|rest| rest.split('"').next().map(str::to_owned));
    let joined = |text: &str| text.split('\\').map(str::trim_start).collect::<String>();
    texts.map(|text| if text.contains("\\\n") { joined(&text) } else { text }).collect()
}

/// Whether a row of a table has all that is the same in each line that comes of this text.
fn shows(row: &str, text: &str) -> bool {
    // How often it was not told stands above the tables.
    let text = text.split("{unsaid}").next().unwrap_or_default();
    let fixed = text.split('{').map(|part| part.rsplit('}').next().unwrap_or_default().trim());
    fixed.filter(|part| !part.is_empty()).try_fold(row, |rest, part| Some(rest.split_once(part)?.1)).is_some()
}

#[test]
fn every_option_is_written_about() {
    let written: String = pages().iter().map(|page| read(page)).collect();
    let in_option = |c: char| c.is_ascii_lowercase() || "-_".contains(c);
    let options = |text: &str| -> Vec<String> {
        let words = text.split(|c| !in_option(c)).filter(|word| word.starts_with("--") && word.len() > 3);
        words.map(str::to_owned).collect()
    };
    let help = String::from_utf8(glbd::run(&["--help"]).stdout).expect("text");
    let (offered, explained) = (options(&help), options(&written));
    assert!(offered.contains(&"--control".to_owned()), "{offered:?}");
    let missing: Vec<&String> = offered.iter().filter(|option| !explained.contains(option)).collect();
    assert!(missing.is_empty(), "neither README.md nor docs/ has {missing:?}");
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(target.exists(), "{} has a link to {link}", page.display());
            let found = heading.is_empty() || anchors(&read(&target)).iter().any(|anchor| anchor == heading);
            assert!(found, "{} has a link to {link}, and there is no such heading", page.display());
        }
    }
    assert!(links > 10, "links are found");
}

/// The names of a page's headings in links.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let name = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(name).collect()
}
