//! One command, carried out: asked of the daemon, and what it answers shown.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::arguments::{Change, Command, Conns, Events};
use super::change::{self, Goal, Target};
use super::client::{self, Client, Failure};
use super::follow::{self, News};
use super::model::{ClientLine, Connection, Event, Filter, Listed, Status, lines, value};
use super::table::Paint;
use super::text::{self, harmless_json};
use super::{check, health, reports};

/// How long a command may take unless somebody says otherwise.
const USUAL: Duration = Duration::from_secs(10);
/// The same for what has the daemon, or another program, do more.
const LONG: Duration = Duration::from_secs(60);
/// The same for what connections are waited for.
const WAIT: Duration = Duration::from_secs(600);
/// How long sessions on the former writer have, and how long the daemon takes beyond that.
const USUAL_GRACE: Duration = Duration::from_secs(10);
const BEYOND_GRACE: Duration = Duration::from_secs(10);
/// How many events are shown before those to come.
const EVENTS_BEFORE: usize = 10;

/// A command that is carried out.
pub struct Session {
    pub client: Client,
    pub filter: Filter,
    pub json: bool,
    pub timeout: Option<Duration>,
    pub begun: Instant,
    pub paint: Paint,
}

impl Session {
    /// A filter that would be ignored is wrong.
    ///
    /// # Errors
    /// It is.
    pub fn check_filter(&self, command: &Command) -> Result<(), Failure> {
        let takes_service = matches!(
            command,
            Command::Status
                | Command::Destinations
                | Command::Stats
                | Command::Health(_)
                | Command::Conns(_)
                | Command::Writer { .. }
        );
        let takes_pool = matches!(
            command,
            Command::Status
                | Command::Destinations
                | Command::Stats
                | Command::Health(_)
                | Command::History { .. }
                | Command::Add(_)
                | Command::Drain(_)
                | Command::Enable(_)
                | Command::Remove(_)
                | Command::Weight { .. }
        );
        match () {
            () if self.filter.pool.is_some() && !takes_pool => {
                Err(Failure::Usage("--pool says nothing to this command".into()))
            }
            () if self.filter.service.is_some() && !takes_service => {
                Err(Failure::Usage("--service says nothing to this command".into()))
            }
            () => Ok(()),
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn run(&self, command: Command) -> Result<ExitCode, Failure> {
        match command {
            Command::Status => self.show(reports::status)?,
            Command::Destinations => self.show(reports::destinations)?,
            Command::Stats => self.show(reports::stats)?,
            Command::Health(it) => return self.health(it.warning, it.critical),
            Command::Events(events) => self.events(&events)?,
            Command::History { destination: None } => self.show(reports::last_day)?,
            Command::History { destination: Some(destination) } => {
                let target = Target::parse(&destination, &self.filter);
                let answer = self.ask(&format!("gethistory {} json", target.line()))?;
                self.print_json_or(&answer, || Ok(reports::history(&value(&answer)?, self.paint)))?;
            }
            Command::Conns(which) => self.conns(&which)?,
            Command::Clients { limit } => self.clients(limit)?,
            Command::Kick { which, pace } => self.kick(&which.join(" "), pace)?,
            Command::Add(change) => self.change("add", &change, None)?,
            Command::Drain(change) => self.change("drain", &change, Some(Goal::Empty))?,
            Command::Enable(change) => self.change("enable", &change, None)?,
            Command::Remove(change) => self.change("remove", &change, Some(Goal::Gone))?,
            Command::Weight { change, weight } => {
                let destination = format!("{}:{weight}", change.destination);
                self.change("weight", &Change { destination, wait: change.wait }, None)?;
            }
            Command::Writer { destination, grace } => self.writer(&destination, grace)?,
            Command::Reload => self.obey("reload", LONG)?,
            Command::Check { file } => {
                let said = check::check(&file, self.deadline(LONG))?;
                self.print_done(&said)?;
            }
            Command::Top { .. } => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    fn deadline(&self, usual: Duration) -> Instant {
        self.begun + self.timeout.unwrap_or(usual)
    }

    fn ask(&self, command: &str) -> Result<String, Failure> {
        self.client.ask(command, self.deadline(USUAL))
    }

    fn status(&self) -> Result<(String, Status), Failure> {
        let answer = self.ask("getinfo json")?;
        let status = value::<Status>(&answer)?.filtered(&self.filter)?;
        Ok((answer, status))
    }

    fn show(&self, report: impl FnOnce(&Status, Paint) -> String) -> Result<(), Failure> {
        let (answer, status) = self.status()?;
        if self.json && (self.filter.pool.is_some() || self.filter.service.is_some()) {
            return print(&(harmless_json(&filtered_json(&answer, &status)?) + "\n"));
        }
        self.print_json_or(&answer, || Ok(report(&status, self.paint)))
    }

    fn print_json_or(&self, answer: &str, report: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
        let report = report()?;
        print(&if self.json { harmless_json(answer) } else { report })
    }

    /// Has a command carried out that is answered by what was done.
    fn obey(&self, command: &str, usual: Duration) -> Result<(), Failure> {
        self.print_done(&self.done(command, usual)?)
    }

    fn done(&self, command: &str, usual: Duration) -> Result<Vec<String>, Failure> {
        let answer = self.client.ask(command, self.deadline(usual))?;
        let mut said = client::reasons(&answer);
        match said.pop() {
            Some(last) if last == "Ok" => Ok(said),
            _ => Err(Failure::Unreachable(format!("the daemon has answered {:?}", text::harmless(&answer)))),
        }
    }

    fn print_done(&self, said: &[String]) -> Result<(), Failure> {
        match self.json {
            true => print(&format!("{}\n", json!({ "ok": true, "lines": said }))),
            false => print(&said.iter().map(|line| format!("{line}\n")).collect::<String>()),
        }
    }

    fn change(&self, word: &str, change: &Change, goal: Option<Goal>) -> Result<(), Failure> {
        let target = Target::parse(&change.destination, &self.filter);
        let goal = goal.unwrap_or(if target.is_drained() { Goal::Empty } else { Goal::Fit });
        let usual = if change.wait { WAIT } else { USUAL };
        let said = self.done(&format!("{word} {}", target.line()), usual)?;
        if change.wait {
            change::wait(&self.client, &target, goal, self.deadline(WAIT))?;
        }
        self.print_done(&said)
    }

    fn writer(&self, destination: &str, grace: Option<Duration>) -> Result<(), Failure> {
        let service = self.filter.service.as_ref().map(|service| format!("{service}/")).unwrap_or_default();
        let words = grace.map(|grace| format!(" {}", grace.as_secs_f64())).unwrap_or_default();
        self.obey(&format!("writer {service}{destination}{words}"), grace.unwrap_or(USUAL_GRACE) + BEYOND_GRACE)
    }

    fn kick(&self, which: &str, pace: Option<u32>) -> Result<(), Failure> {
        let pace = pace.map(|pace| format!(" pace={pace}")).unwrap_or_default();
        let said = self.done(&format!("kick {which}{pace}"), USUAL)?;
        let (missing, done): (Vec<String>, Vec<String>) =
            said.iter().cloned().partition(|line| line.starts_with(client::MISSING));
        match self.json {
            true => print(&format!("{}\n", json!({ "ok": missing.is_empty(), "lines": said })))?,
            false => self.print_done(&done)?,
        }
        complete(missing.iter().map(|line| line.replacen(client::MISSING, "", 1)).collect())
    }

    fn events(&self, events: &Events) -> Result<(), Failure> {
        let word =
            |name: &str, value: &Option<String>| value.as_ref().map(|it| format!(" {name}={it}")).unwrap_or_default();
        let is_bare = events.follow && events.since.is_none() && events.limit.is_none();
        let limit = events.limit.or(is_bare.then_some(EVENTS_BEFORE));
        let limit = word("limit", &limit.map(|limit| limit.to_string()));
        let (since, kind) = (word("since", &events.since), word("kind", &events.kind));
        // Where the newest one is not of the kind, those after it are nevertheless new.
        let newest = if events.follow { self.ask("getevents limit=1 json")? } else { String::new() };
        let answer = self.ask(&format!("getevents{since}{kind}{limit} json"))?;
        let found: Vec<Event> = lines(&answer)?;
        self.print_json_or(&answer, || Ok(found.iter().map(|event| reports::event(event, self.paint)).collect()))?;
        if !events.follow {
            return Ok(());
        }
        let newest: Vec<Event> = lines(&newest)?;
        let last = newest.last().into_iter().chain(found.last()).map(|event| event.number).max();
        let patience = self.timeout.unwrap_or(USUAL);
        follow::follow(&self.client, last.unwrap_or_default(), patience, |news| match news {
            News::Event(_, event)
                if events.kind.as_ref().is_some_and(|kind| !event.kind.as_str().eq_ignore_ascii_case(kind)) =>
            {
                Ok(())
            }
            News::Event(line, _) if self.json => print(&(harmless_json(line) + "\n")),
            News::Event(_, event) => print(&reports::event(&event, self.paint)),
            News::Missed(missed) if self.json => print(&format!("{}\n", json!({ "missed": missed }))),
            News::Missed(missed) => print(&reports::missed(missed, self.paint)),
        })
    }

    fn conns(&self, which: &Conns) -> Result<(), Failure> {
        let mut command = "getconns".to_owned();
        command.extend(self.filter.service.iter().map(|service| format!(" {service}")));
        let limit = which.limit.map(|limit| limit.to_string());
        let words = [
            ("client", &which.client),
            ("dest", &which.dest),
            ("older", &which.older),
            ("idle", &which.idle),
            ("sort", &which.sort),
            ("limit", &limit),
        ];
        command.extend(words.iter().filter_map(|(name, value)| Some(format!(" {name}={}", value.as_ref()?))));
        let answer = self.ask(&(command + " json"))?;
        let listed = Listed::parse(&answer);
        let found: Vec<Connection> = lines(&listed.found)?;
        self.print_json_or(&answer, || Ok(reports::connections(&found, self.paint)))?;
        complete(listed.reasons)
    }

    fn clients(&self, limit: Option<usize>) -> Result<(), Failure> {
        let words = limit.map(|limit| format!(" limit={limit}")).unwrap_or_default();
        let listed = Listed::parse(&self.ask(&format!("getclients{words} json"))?);
        let found: Vec<ClientLine> = lines(&listed.found)?;
        let mut found: Vec<(&str, ClientLine)> = listed.found.lines().zip(found).collect();
        found.sort_by_key(|(_, client)| std::cmp::Reverse(client.connections));
        found.truncate(limit.unwrap_or(usize::MAX));
        let (json, clients): (Vec<&str>, Vec<ClientLine>) = found.into_iter().unzip();
        let json: String = json.iter().map(|line| format!("{line}\n")).collect();
        self.print_json_or(&(json + &listed.missing), || Ok(reports::clients(&clients, self.paint)))?;
        complete(listed.reasons)
    }

    fn health(&self, warning: usize, critical: usize) -> Result<ExitCode, Failure> {
        let status = self.ask("getinfo json").and_then(|answer| value(&answer));
        let report = health::report(status, &self.filter, warning, critical);
        match self.json {
            true => print(&format!(
                "{}\n",
                json!({ "state": report.level.name(), "summary": report.summary, "details": report.details })
            ))?,
            false => print(&report.text())?,
        }
        Ok(ExitCode::from(report.level as u8))
    }
}

/// What is shown lacks something if processes have not answered.
fn complete(missing: Vec<String>) -> Result<(), Failure> {
    if missing.is_empty() { Ok(()) } else { Err(Failure::Incomplete(missing)) }
}

/// What the daemon has sent, without the services and pools that are not asked for.
fn filtered_json(answer: &str, status: &Status) -> Result<String, Failure> {
    let mut all: serde_json::Value = value(answer)?;
    let names: [(&str, Vec<&str>); 2] = [
        ("services", status.services.iter().map(|it| it.name.as_str()).collect()),
        ("pools", status.pools.iter().map(|it| it.name.as_str()).collect()),
    ];
    for (key, names) in names {
        if let Some(list) = all.get_mut(key).and_then(serde_json::Value::as_array_mut) {
            list.retain(|it| it["name"].as_str().is_some_and(|name| names.contains(&name)));
        }
    }
    Ok(all.to_string())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Unreachable(format!("cannot write: {error}"))),
        Ok(()) => Ok(()),
    }
}
