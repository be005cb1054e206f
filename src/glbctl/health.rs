//! `glbctl health`: one line for monitoring systems, in the form of monitoring plugins, and their exit status.

use super::client::Failure;
use super::model::{Filter, Status};

/// What monitoring plugins exit with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        }
    }
}

/// The state of a daemon, and the text about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub level: Level,
    /// What it is, in one line.
    pub summary: String,
    /// `'label'=value;warning;critical;minimum;maximum`
    pub data: String,
    /// What is wrong, a line for each.
    pub details: Vec<String>,
}

impl Report {
    /// As a plugin writes it. A bar would begin the performance data.
    pub fn text(&self) -> String {
        let details: String = self.details.iter().map(|line| format!("{}\n", line.replace('|', "/"))).collect();
        let data = if self.data.is_empty() { String::new() } else { format!(" | {}", self.data) };
        format!("GLBD {} - {}{data}\n{details}", self.level.name(), self.summary.replace('|', "/"))
    }
}

/// The report about a daemon that has answered, or has not.
pub fn report(status: Result<Status, Failure>, filter: &Filter, warning: usize, critical: usize) -> Report {
    match status.and_then(|status| status.filtered(filter)) {
        Ok(status) => judge(&status, warning, critical),
        Err(failure) => {
            let level = if let Failure::Unreachable(_) = failure { Level::Critical } else { Level::Unknown };
            Report { level, summary: failure.to_string(), data: String::new(), details: Vec::new() }
        }
    }
}

fn judge(status: &Status, warning: usize, critical: usize) -> Report {
    let destinations: Vec<_> = status.destinations().map(|(_, destination)| destination).collect();
    let unfit: Vec<_> = destinations.iter().filter(|destination| destination.is_unfit()).collect();
    let unresolved: Vec<_> = status.pools.iter().flat_map(|pool| &pool.unresolved).collect();
    let count = unfit.len() + unresolved.len();
    let unserved: Vec<_> = status.services.iter().filter(|service| !service.ready || service.full).collect();
    let unwatched: Vec<_> = status.pools.iter().filter(|pool| pool.checks_note.is_some()).collect();
    let process = &status.process;
    let level = match () {
        () if process.paused || !unserved.is_empty() || count >= critical => Level::Critical,
        () if count >= warning || !unwatched.is_empty() => Level::Warning,
        () => Level::Ok,
    };
    let all = destinations.len() + unresolved.len();
    let mut summary = format!("{} of {all} destinations fit, {} connections", all - count, process.connections);
    if process.paused {
        summary += ", paused: new clients wait";
    }
    for service in &unserved {
        summary += &match service.ready {
            false => format!(", service {} has no destination for clients", service.name),
            true => format!(", service {} is full", service.name),
        };
    }
    let mut details: Vec<String> =
        unfit.iter().map(|it| format!("{} {}: {}", it.address, it.verdict, it.remarks())).collect();
    details.extend(unresolved.iter().map(|it| format!("{} UNRESOLVED: {}", it.name, it.reason)));
    let note =
        |pool: &&super::model::Pool| Some(format!("pool {}: no checks: {}", pool.name, pool.checks_note.as_ref()?));
    details.extend(unwatched.iter().filter_map(note));
    Report { level, summary, data: data(status, [count, all], [warning, critical]), details }
}

/// Thresholds there are ranges, outside of which it is wrong.
fn data(status: &Status, [count, all]: [usize; 2], [warning, critical]: [usize; 2]) -> String {
    let range = |least: usize| least.checked_sub(1).map_or_else(|| "~:-1".to_owned(), |most| most.to_string());
    let process = &status.process;
    let queue = status.services.iter().fold(0u64, |sum, service| sum.saturating_add(service.queue));
    let failures = status.destinations().fold(0u64, |sum, (_, it)| sum.saturating_add(it.connects.failures()));
    [
        format!("unfit={count};{};{};0;{all}", range(warning), range(critical)),
        format!("connections={};;;0;{}", process.connections, process.max_connections),
        format!("queue={queue};;;0"),
        format!("accepted={}c", process.accepted),
        format!("failed_connects={failures}c"),
        format!("bytes_in={}c", process.bytes_in),
        format!("bytes_out={}c", process.bytes_out),
    ]
    .join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::model::value;
    use super::*;

    fn status(verdicts: &[&str], services: &str) -> Status {
        let it =
            |verdict: &&str| format!(r#"{{"address":"10.0.0.1:1","weight":1,"verdict":"{verdict}","reason":"a|b"}}"#);
        let destinations: Vec<String> = verdicts.iter().map(it).collect();
        let pools = format!(r#"[{{"name":"p","destinations":[{}]}}]"#, destinations.join(","));
        value(&format!(
            r#"{{"process":{{"connections":3,"max_connections":9}},"services":{services},"pools":{pools}}}"#
        ))
        .expect("JSON")
    }

    fn level(verdicts: &[&str], services: &str) -> Level {
        report(Ok(status(verdicts, services)), &Filter::default(), 1, 2).level
    }

    const READY: &str = r#"[{"name":"s","pool":"p","ready":true}]"#;

    #[test]
    fn the_worst_counts() {
        assert_eq!(level(&["READY", "SPARE"], READY), Level::Ok);
        assert_eq!(level(&["READY", "AVOID"], READY), Level::Warning);
        assert_eq!(level(&["READY", "DOWN", "UNKNOWN"], READY), Level::Critical);
        assert_eq!(level(&["READY"], r#"[{"name":"s","pool":"p","ready":false}]"#), Level::Critical);
        assert_eq!(level(&["READY"], r#"[{"name":"s","pool":"p","ready":true,"full":true}]"#), Level::Critical);
        let failed = |failure| report(Err(failure), &Filter::default(), 1, 2).level;
        assert_eq!(failed(Failure::Unreachable("gone".into())), Level::Critical);
        assert_eq!(failed(Failure::Refused(vec!["no".into()])), Level::Unknown);
        let filter = Filter { pool: Some("other".into()), service: None };
        assert_eq!(report(Ok(status(&[], READY)), &filter, 1, 2).level, Level::Unknown);
    }

    #[test]
    fn the_text_is_that_of_a_plugin() {
        let text = report(Ok(status(&["READY", "DOWN"], READY)), &Filter::default(), 1, 2).text();
        let (first, details) = text.split_once('\n').expect("lines");
        let (summary, data) = first.split_once(" | ").expect("performance data");
        assert_eq!(summary, "GLBD WARNING - 1 of 2 destinations fit, 3 connections");
        assert!(data.starts_with("unfit=1;0;1;0;2 connections=3;;;0;9 "), "{data}");
        assert_eq!(details, "10.0.0.1:1 DOWN: a/b\n");
    }
}
