//! What is shown, and what keys do: no drawing, no terminal, no daemon.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::super::model::{ClientLine, Destination, Event, Filter};
use super::daemon::{Daemon, Key, Look, Rates, key};

/// Longest text that can be typed.
const LONGEST_INPUT: usize = 60;
/// How long a message stays.
const MESSAGE: Duration = Duration::from_secs(10);
/// How far the keys for pages go.
const PAGE: isize = 10;

/// What has to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Quit,
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Have a daemon carry out a command.
    Send {
        daemon: usize,
        command: String,
    },
}

/// By what destinations are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// As in the table of the daemon.
    Table,
    Address,
    Verdict,
    Connections,
    Rate,
    Traffic,
    Failures,
}

impl Sort {
    const ALL: [Sort; 7] =
        [Sort::Table, Sort::Address, Sort::Verdict, Sort::Connections, Sort::Rate, Sort::Traffic, Sort::Failures];

    pub fn name(self) -> &'static str {
        match self {
            Sort::Table => "table",
            Sort::Address => "address",
            Sort::Verdict => "verdict",
            Sort::Connections => "connections",
            Sort::Rate => "rate",
            Sort::Traffic => "traffic",
            Sort::Failures => "failures",
        }
    }

    fn next(self) -> Sort {
        let place = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Sort::ALL[(place + 1) % Sort::ALL.len()]
    }
}

/// What is below the destinations. The cursor is there if it is a list of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lower {
    Events,
    Clients,
}

/// What keys are for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Usual,
    Help,
    /// The filter is being typed.
    Filter,
    /// A weight is being typed, for a destination that has this name in commands.
    Weight {
        daemon: usize,
        name: String,
        input: String,
    },
    /// A command waits to be confirmed.
    Confirm {
        daemon: usize,
        question: String,
        command: String,
    },
}

/// A destination as it is listed.
#[derive(Debug)]
pub struct Row<'a> {
    pub key: Key,
    pub destination: &'a Destination,
    pub rates: Rates,
}

/// Everything.
#[derive(Debug)]
pub struct App {
    pub daemons: Vec<Daemon>,
    /// The daemon that keys are for.
    pub focus: usize,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    pub lower: Lower,
    pub mode: Mode,
    pub paused: bool,
    /// Where the cursor is among the destinations of each daemon.
    selected: Vec<Option<Key>>,
    client: Option<String>,
    message: Option<(Instant, String, bool)>,
    scope: Filter,
}

impl App {
    pub fn new(names: Vec<String>, scope: Filter) -> App {
        App {
            selected: vec![None; names.len()],
            daemons: names.into_iter().map(Daemon::new).collect(),
            focus: 0,
            sort: Sort::Table,
            reversed: false,
            filter: String::new(),
            lower: Lower::Events,
            mode: Mode::Usual,
            paused: false,
            client: None,
            message: None,
            scope,
        }
    }

    /// A daemon has answered, or not.
    pub fn saw(&mut self, daemon: usize, look: Result<Look, String>, at: Instant) {
        if !self.paused {
            self.daemons[daemon].saw(look, at, &self.scope);
        }
    }

    /// What became of a command.
    pub fn was_told(&mut self, text: String, is_bad: bool) {
        self.message = Some((Instant::now(), text, is_bad));
    }

    /// What became of the last command, and whether that is bad.
    pub fn message(&self) -> Option<(&str, bool)> {
        let fresh = self.message.as_ref().filter(|(since, ..)| since.elapsed() < MESSAGE);
        fresh.map(|(_, text, is_bad)| (text.as_str(), *is_bad))
    }

    /// The destinations of a daemon, sorted and filtered.
    pub fn rows(&self, daemon: usize) -> Vec<Row<'_>> {
        let daemon = &self.daemons[daemon];
        let row = |(pool, destination)| {
            let key = key(pool, destination);
            Row { rates: daemon.rates_of(&key), key, destination }
        };
        let mut rows: Vec<Row> =
            daemon.status().into_iter().flat_map(|status| status.destinations()).map(row).collect();
        rows.retain(|row| {
            let it = row.destination;
            let role = if it.writer { "writer" } else { "" };
            let names = it.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            self.fits(&format!("{} {} {names} {role} {} {}", row.key.0, row.key.1, it.verdict, it.remarks()))
        });
        rows.sort_by(|one, other| self.compare(one, other));
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// The most first, and what is wrong first.
    fn compare(&self, one: &Row, other: &Row) -> Ordering {
        let badness = |row: &Row| match row.destination.verdict.as_str() {
            "DOWN" => 0,
            "AVOID" => 1,
            "UNKNOWN" => 2,
            "SPARE" => 3,
            _ => 4,
        };
        match self.sort {
            Sort::Table => Ordering::Equal,
            Sort::Address => one.key.1.cmp(&other.key.1),
            Sort::Verdict => badness(one).cmp(&badness(other)),
            Sort::Connections => other.destination.connections.now.cmp(&one.destination.connections.now),
            Sort::Rate => other.rates.connections.total_cmp(&one.rates.connections),
            Sort::Traffic => {
                let traffic = |row: &Row| row.rates.bytes_in + row.rates.bytes_out;
                traffic(other).total_cmp(&traffic(one))
            }
            Sort::Failures => other.destination.connects.failures().cmp(&one.destination.connects.failures()),
        }
    }

    /// The events of a daemon, the newest first.
    pub fn events(&self, daemon: usize) -> impl Iterator<Item = &Event> {
        let events = self.daemons[daemon].look.iter().flat_map(|look| look.events.iter().rev());
        events.filter(|event| self.fits(&format!("{} {}", event.kind, event.text)))
    }

    /// The clients of a daemon, those with the most connections first, or why there are none.
    pub fn clients(&self, daemon: usize) -> Result<Vec<&ClientLine>, &str> {
        let Some(look) = &self.daemons[daemon].look else { return Ok(Vec::new()) };
        let clients = look.clients.as_ref().map_err(String::as_str)?;
        let mut clients: Vec<_> = clients.iter().filter(|it| self.fits(it.client.as_str())).collect();
        clients.sort_by_key(|it| std::cmp::Reverse(it.connections));
        Ok(clients)
    }

    fn fits(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// Where the cursor is among the rows of a daemon.
    pub fn selected(&self, daemon: usize, rows: &[Row]) -> Option<usize> {
        let selected = self.selected[daemon].as_ref();
        let found = rows.iter().position(|row| Some(&row.key) == selected);
        found.or((!rows.is_empty()).then_some(0))
    }

    /// Where the cursor is among the clients of the daemon that keys are for.
    pub fn selected_client(&self, clients: &[&ClientLine]) -> Option<usize> {
        let found = clients.iter().position(|it| self.client.as_deref() == Some(it.client.as_str()));
        found.or((!clients.is_empty()).then_some(0))
    }

    /// Takes a key.
    pub fn on_key(&mut self, key: KeyEvent) -> Effect {
        if key.kind == KeyEventKind::Release {
            return Effect::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Effect::Quit,
                KeyCode::Char('z') => Effect::Suspend,
                KeyCode::Char('l') => Effect::Redraw,
                _ => Effect::Nothing,
            };
        }
        match std::mem::replace(&mut self.mode, Mode::Usual) {
            Mode::Usual => self.usual_key(key.code),
            Mode::Help => Effect::Nothing,
            Mode::Filter => {
                match typed(&mut self.filter, key.code) {
                    Typed::More => self.mode = Mode::Filter,
                    Typed::Done => {}
                    Typed::Left => self.filter.clear(),
                }
                Effect::Nothing
            }
            Mode::Weight { daemon, name, mut input } => {
                match typed(&mut input, key.code) {
                    Typed::More => self.mode = Mode::Weight { daemon, name, input },
                    Typed::Done => self.confirm_weight(daemon, &name, &input),
                    Typed::Left => {}
                }
                Effect::Nothing
            }
            Mode::Confirm { daemon, command, .. } => match key.code {
                KeyCode::Char('y' | 'Y') => Effect::Send { daemon, command },
                _ => {
                    self.was_told("nothing was done".into(), false);
                    Effect::Nothing
                }
            },
        }
    }

    fn usual_key(&mut self, code: KeyCode) -> Effect {
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('p') | KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('c') => self.lower = Lower::Clients,
            KeyCode::Char('e') => self.lower = Lower::Events,
            KeyCode::Esc if self.lower == Lower::Events => self.filter.clear(),
            KeyCode::Esc => self.lower = Lower::Events,
            KeyCode::Up => self.move_by(-1),
            KeyCode::Down => self.move_by(1),
            KeyCode::PageUp => self.move_by(-PAGE),
            KeyCode::PageDown => self.move_by(PAGE),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            KeyCode::Right | KeyCode::Tab => self.focus = (self.focus + 1) % self.daemons.len(),
            KeyCode::Left | KeyCode::BackTab => self.focus = (self.focus + self.daemons.len() - 1) % self.daemons.len(),
            KeyCode::Char('d') => self.ask("drain", "drain"),
            KeyCode::Char('n') => self.ask("enable", "enable"),
            KeyCode::Char('w') => self.type_weight(),
            KeyCode::Char('W') => self.ask_writer(),
            KeyCode::Char('K') => self.ask_kick(),
            _ => {}
        }
        Effect::Nothing
    }

    fn move_by(&mut self, by: isize) {
        let moved = |place: Option<usize>, count: usize| {
            let last = count.checked_sub(1)?;
            Some(place.unwrap_or_default().saturating_add_signed(by).min(last))
        };
        match self.lower {
            Lower::Events => {
                let rows = self.rows(self.focus);
                let place = moved(self.selected(self.focus, &rows), rows.len());
                let key = place.map(|place| rows[place].key.clone());
                self.selected[self.focus] = key;
            }
            Lower::Clients => {
                let clients = self.clients(self.focus).unwrap_or_default();
                let place = moved(self.selected_client(&clients), clients.len());
                self.client = place.map(|place| clients[place].client.to_string());
            }
        }
    }

    /// The destination under the cursor, as it is named in commands.
    fn target(&self) -> Option<(String, Key)> {
        let rows = self.rows(self.focus);
        let key = rows.get(self.selected(self.focus, &rows)?)?.key.clone();
        let is_one_of_many = self.daemons[self.focus].status().is_some_and(|status| status.pools.len() > 1);
        let name = if is_one_of_many { format!("{}/{}", key.0, key.1) } else { key.1.clone() };
        Some((name, key))
    }

    fn confirm(&mut self, question: String, command: String) {
        let daemon = self.focus;
        let at = if self.daemons.len() > 1 { format!(" at {}", self.daemons[daemon].name) } else { String::new() };
        self.mode = Mode::Confirm { daemon, question: format!("{question}{at}?"), command };
    }

    /// A daemon that is away is asked nothing: what is shown of it is old.
    fn can_act(&mut self) -> bool {
        let daemon = &self.daemons[self.focus];
        let can = daemon.away.is_none() && daemon.look.is_some();
        if !can {
            self.was_told(format!("{} does not answer", self.daemons[self.focus].name), true);
        }
        can
    }

    fn ask(&mut self, what: &str, command: &str) {
        if !self.can_act() {
            return;
        }
        match self.target() {
            Some((name, _)) => self.confirm(format!("{what} {name}"), format!("{command} {name}")),
            None => self.was_told("there is no destination".into(), true),
        }
    }

    fn type_weight(&mut self) {
        if !self.can_act() {
            return;
        }
        if let Some((name, _)) = self.target() {
            self.mode = Mode::Weight { daemon: self.focus, name, input: String::new() };
        }
    }

    fn confirm_weight(&mut self, daemon: usize, name: &str, input: &str) {
        let weight = input.trim().parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 0.0);
        match weight {
            Some(weight) => {
                self.focus = daemon;
                self.confirm(format!("give {name} the weight {weight}"), format!("weight {name}:{weight}"));
            }
            None => self.was_told(format!("'{input}' is not a weight"), true),
        }
    }

    fn ask_writer(&mut self) {
        if !self.can_act() {
            return;
        }
        let Some((_, (pool, address))) = self.target() else { return };
        let status = self.daemons[self.focus].status();
        let services = status.map(|status| status.services.as_slice()).unwrap_or_default();
        let single = services.iter().find(|service| service.single && service.pool.as_str() == pool);
        let Some(service) = single.map(|service| service.name.to_string()) else {
            return self.was_told(format!("no service has a single destination in pool {pool}"), true);
        };
        let name = if services.len() > 1 { format!("{service}/{address}") } else { address.clone() };
        self.confirm(format!("make {address} the writer of {service}"), format!("writer {name}"));
    }

    fn ask_kick(&mut self) {
        if !self.can_act() {
            return;
        }
        if self.lower == Lower::Clients {
            let clients = self.clients(self.focus).unwrap_or_default();
            let client = self.selected_client(&clients).map(|place| clients[place].client.to_string());
            return match client {
                Some(client) => {
                    self.confirm(format!("close the connections of client {client}"), format!("kick client={client}"))
                }
                None => self.was_told("there is no client".into(), true),
            };
        }
        let Some((_, (_, address))) = self.target() else { return };
        self.confirm(format!("close the connections to {address}"), format!("kick dest={address}"));
    }
}

enum Typed {
    More,
    Done,
    Left,
}

fn typed(input: &mut String, code: KeyCode) -> Typed {
    match code {
        KeyCode::Enter => return Typed::Done,
        KeyCode::Esc => return Typed::Left,
        KeyCode::Backspace => _ = input.pop(),
        KeyCode::Char(letter) if input.len() < LONGEST_INPUT && !letter.is_control() => input.push(letter),
        _ => {}
    }
    Typed::More
}
