//! Draws what is to be shown.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as Cells, Table, Wrap};

use super::super::model::Service;
use super::super::table::Tone;
use super::super::text::{age, bytes, rate, second, short, since, took, weight};
use super::app::{App, Lower, Mode, Row};
use super::daemon::Daemon;

/// The narrowest that a daemon is shown.
const NARROWEST: u16 = 38;
/// The most services that are listed.
const MOST_SERVICES: usize = 4;

const KEYS: &str = "?:help q:quit s:sort /:filter d:drain n:enable w:weight W:writer K:kick c,e:list";

const HELP: &[&str] = &[
    "up, down       choose a destination, or a client",
    "left, right    choose a daemon",
    "s, r           sort by something else, the other way round",
    "/              show only what contains a text; Esc shows all",
    "c, e           show clients, events",
    "p              pause",
    "",
    "d, n           drain the destination, enable it again",
    "w, W           change its weight, make it the writer",
    "K              close its connections, or those of the client",
    "               (all of these ask first)",
    "",
    "q, Ctrl-C      quit        Ctrl-Z  suspend",
    "",
    "*  the writer",
];

/// Draws everything.
pub fn draw(frame: &mut Frame, app: &App) {
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(title(app), top);
    let shown = shown(app, body.width);
    let panes = Layout::horizontal(shown.clone().map(|_| Constraint::Fill(1))).split(body);
    for (daemon, area) in shown.zip(panes.iter()) {
        draw_daemon(frame, app, daemon, *area);
    }
    frame.render_widget(footer(app), bottom);
    if app.mode == Mode::Help {
        draw_help(frame, body);
    }
}

/// Which daemons there is room for: as many as possible, and the one that keys are for.
fn shown(app: &App, width: u16) -> std::ops::Range<usize> {
    let room = usize::from(width / NARROWEST).clamp(1, app.daemons.len());
    let first = app.focus.saturating_sub(room - 1);
    first..first + room
}

fn title(app: &App) -> Line<'static> {
    let order = if app.reversed { " (reversed)" } else { "" };
    let mut spans = vec![
        Span::styled("glbctl top", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  sorted by {}{order}", app.sort.name())),
    ];
    if !app.filter.is_empty() {
        spans.push(Span::raw(format!("  filter: {}", app.filter)));
    }
    if app.daemons.len() > 1 {
        spans.push(Span::raw(format!("  daemon {} of {}", app.focus + 1, app.daemons.len())));
    }
    if app.paused {
        spans.push(Span::styled("  PAUSED", tone(Tone::Odd).add_modifier(Modifier::BOLD)));
    }
    Line::from(spans)
}

fn footer(app: &App) -> Line<'static> {
    let asks = Style::new().add_modifier(Modifier::REVERSED);
    match &app.mode {
        Mode::Filter => Line::styled(format!("filter: {}_  (Enter, Esc: all)", app.filter), asks),
        Mode::Weight { name, input, .. } => Line::styled(format!("weight of {name}: {input}_  (Enter, Esc)"), asks),
        Mode::Confirm { question, .. } => Line::styled(format!("{question}  (y: yes, any other key: no)"), asks),
        Mode::Usual | Mode::Help => match app.message() {
            Some((text, is_bad)) => Line::styled(text.to_owned(), tone(if is_bad { Tone::Bad } else { Tone::Good })),
            None => Line::raw(KEYS),
        },
    }
}

fn draw_daemon(frame: &mut Frame, app: &App, place: usize, area: Rect) {
    let daemon = &app.daemons[place];
    let is_focus = place == app.focus && app.daemons.len() > 1;
    let border = if is_focus { Style::new().add_modifier(Modifier::BOLD).fg(Color::Cyan) } else { Style::new() };
    let block = Block::bordered().border_style(border).title(heading(daemon));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let services = daemon.status().map_or(0, |status| status.services.len().min(MOST_SERVICES) as u16 + 1);
    // Small terminals keep the destinations.
    let (services, lower) = match inner.height {
        0..10 => (0, 0),
        10..16 => (services.min(2), 3),
        height => (services, height * 3 / 10),
    };
    let detail = match inner.height {
        0..10 => 0,
        10..16 => 1,
        _ => 2,
    };
    let rows = app.rows(place);
    // What they do not need is for the list below them.
    let room = inner.height.saturating_sub(1 + services + detail + lower);
    let needed = u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(1);
    let middle = if lower == 0 { room } else { room.min(needed.max(2)) };
    let [state, upper, middle, detail, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(services),
        Constraint::Length(middle),
        Constraint::Length(detail),
        Constraint::Min(0),
    ])
    .areas(inner);
    frame.render_widget(summary(daemon), state);
    let style = if daemon.away.is_some() { Style::new().add_modifier(Modifier::DIM) } else { Style::new() };
    frame.render_widget(services_table(daemon, upper).style(style), upper);
    let selected = app.selected(place, &rows);
    frame.render_widget(destinations(app, place, &rows, selected, middle).style(style), middle);
    frame.render_widget(selected.map(|it| about(&rows[it])).unwrap_or_default().style(style), detail);
    match app.lower {
        Lower::Events => frame.render_widget(events(app, place, below).style(style), below),
        Lower::Clients => frame.render_widget(clients(app, place, below).style(style), below),
    }
}

fn heading(daemon: &Daemon) -> String {
    match daemon.status() {
        None => format!(" {} ", daemon.name),
        Some(status) => {
            let process = &status.process;
            format!(" {}  glbd {}  up {} ", daemon.name, process.version, age(process.uptime))
        }
    }
}

fn summary(daemon: &Daemon) -> Line<'static> {
    if let Some((since, reason)) = &daemon.away {
        let long = age(Instant::now().saturating_duration_since(*since).as_secs() as f64);
        return Line::styled(format!("AWAY for {long}: {reason}"), tone(Tone::Bad).add_modifier(Modifier::BOLD));
    }
    let Some(status) = daemon.status() else { return Line::raw("connecting...") };
    let (process, rates) = (&status.process, daemon.rates);
    let waiting = status.services.iter().fold(0u64, |sum, service| sum.saturating_add(service.queue));
    Line::raw(format!(
        "conns {}/{}  new {}/s  queue {waiting}  in {}/s  out {}/s",
        process.connections,
        process.max_connections,
        rate(rates.connections),
        bytes(rates.bytes_in),
        bytes(rates.bytes_out)
    ))
}

/// A column: its title, its width, whether numbers stand in it.
type Column = (&'static str, u16, bool);

/// The columns there is room for, those that stand first in `by_weight` before the others.
fn columns(all: &[Column], by_weight: &[usize], width: u16) -> Vec<usize> {
    let mut left = i32::from(width);
    let mut chosen = Vec::new();
    for &column in by_weight {
        let needed = i32::from(all[column].1) + i32::from(!chosen.is_empty());
        if needed <= left || chosen.is_empty() {
            left -= needed;
            chosen.push(column);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// A table of these columns, the last of which takes what is left.
fn table(all: &[Column], chosen: &[usize], rows: Vec<Cells<'static>>) -> Table<'static> {
    let last = chosen.last().copied();
    let widths = chosen.iter().map(|&column| match Some(column) == last && !all[column].2 {
        true => Constraint::Fill(1),
        false => Constraint::Length(all[column].1),
    });
    let header = chosen.iter().map(|&column| cell(all[column], all[column].0.to_owned(), Style::new()));
    let header = Cells::new(header.collect::<Vec<_>>()).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows, widths.collect::<Vec<_>>()).header(header).column_spacing(1)
}

fn cell(column: Column, text: String, style: Style) -> Cell<'static> {
    let alignment = if column.2 { Alignment::Right } else { Alignment::Left };
    Cell::new(Line::styled(text, style).alignment(alignment))
}

const DESTINATIONS: [Column; 11] = [
    ("DESTINATION", 22, false),
    ("VERDICT", 7, false),
    ("FOR", 7, true),
    ("CONNS", 5, true),
    ("NEW/S", 5, true),
    ("WEIGHT", 6, true),
    ("BYTES/S", 7, true),
    ("CONNECT P99", 11, true),
    ("FAILED", 6, true),
    ("DOWN IN 24H", 11, true),
    ("REASON", 12, false),
];

fn destinations(app: &App, place: usize, rows: &[Row], selected: Option<usize>, area: Rect) -> Table<'static> {
    let has_cursor = place == app.focus && app.lower == Lower::Events;
    let status = app.daemons[place].status();
    let several = status.is_some_and(|status| status.pools.len() > 1);
    let name = |row: &Row| {
        let mark = if row.destination.writer { "*" } else { " " };
        if several { format!("{mark}{}/{}", row.key.0, row.key.1) } else { format!("{mark}{}", row.key.1) }
    };
    let mut all = DESTINATIONS;
    let longest = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or_default();
    all[0].1 = u16::try_from(longest).unwrap_or(u16::MAX).min(area.width / 3).max(all[0].1);
    let chosen = columns(&all, &[0, 1, 3, 4, 10, 2, 6, 8, 5, 7, 9], area.width);
    let made = window(rows.len(), selected, area.height).map(|index| {
        let row = &rows[index];
        let it = row.destination;
        let lasted = status.and_then(|status| since(it.since.as_ref()?, &status.process.time));
        let connect = it.times("connect").and_then(|times| times.p99);
        let texts = [
            name(row),
            it.verdict.to_string(),
            lasted.map(|lasted| age(lasted.floor())).unwrap_or_default(),
            short(it.connections.now as f64),
            rate(row.rates.connections),
            weight(it.weight),
            short(row.rates.bytes_in + row.rates.bytes_out),
            connect.map(took).unwrap_or_default(),
            short(it.connects.failures() as f64),
            short(it.last_day.down.count as f64),
            it.remarks(),
        ];
        let style = |column: usize| match column {
            1 => tone(Tone::of(it.verdict.as_str())),
            8 if row.rates.failures > 0.0 => tone(Tone::Bad),
            _ => Style::new(),
        };
        let cells: Vec<_> =
            chosen.iter().map(|&column| cell(all[column], texts[column].clone(), style(column))).collect();
        let is_selected = has_cursor && Some(index) == selected;
        Cells::new(cells).style(if is_selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() })
    });
    table(&all, &chosen, made.collect())
}

/// Which rows of a list are shown below its heading, so that the cursor is among them.
fn window(count: usize, selected: Option<usize>, height: u16) -> std::ops::Range<usize> {
    let room = usize::from(height.saturating_sub(1));
    let first = selected.unwrap_or_default().saturating_sub(room.saturating_sub(1));
    first..count.min(first + room)
}

/// What has no room in the row of the destination under the cursor.
fn about(row: &Row) -> Paragraph<'static> {
    let it = row.destination;
    let since = it.since.as_ref().map(|since| format!(" since {}", second(since))).unwrap_or_default();
    let down = &it.last_day.down;
    let down = match down.count {
        0 => String::new(),
        count => format!(", DOWN {count} times in 24 h for {}", age(down.seconds.round())),
    };
    let remarks = it.remarks();
    let why = if remarks.is_empty() { String::new() } else { format!(": {remarks}") };
    Paragraph::new(Line::styled(
        format!("{} {}{since}{down}, weight {}{why}", row.key.1, it.verdict, weight(it.weight)),
        tone(Tone::of(it.verdict.as_str())),
    ))
    .wrap(Wrap { trim: true })
}

const SERVICES: [Column; 7] = [
    ("SERVICE", 10, false),
    ("CONNS", 9, true),
    ("QUEUE", 5, true),
    ("STATE", 14, false),
    ("LISTEN", 15, false),
    ("WRITER", 21, false),
    ("FOR", 7, true),
];

fn services_table(daemon: &Daemon, area: Rect) -> Table<'static> {
    let status = daemon.status();
    let services = status.map(|status| status.services.as_slice()).unwrap_or_default();
    let chosen = columns(&SERVICES, &[0, 1, 3, 2, 5, 6, 4], area.width);
    let room = usize::from(area.height.saturating_sub(1));
    let state = |it: &Service| status.map_or("", |status| it.state(&status.process));
    let rows = services.iter().take(room).map(|it| {
        let lasted = status.and_then(|status| since(it.writer_since.as_ref()?, &status.process.time));
        let most = it.max_connections.map(|most| format!("/{most}")).unwrap_or_default();
        let texts = [
            it.name.to_string(),
            format!("{}{most}", it.connections.now),
            it.queue.to_string(),
            state(it).to_owned(),
            it.listen.to_string(),
            it.writer.as_ref().map(ToString::to_string).unwrap_or_default(),
            lasted.map(|lasted| age(lasted.floor())).unwrap_or_default(),
        ];
        let good = state(it) == "ready";
        let style = |column| match column {
            3 => tone(if good { Tone::Good } else { Tone::Bad }),
            _ => Style::new(),
        };
        Cells::new(
            chosen
                .iter()
                .map(|&column| cell(SERVICES[column], texts[column].clone(), style(column)))
                .collect::<Vec<_>>(),
        )
    });
    table(&SERVICES, &chosen, rows.collect())
}

const EVENTS: [Column; 2] = [("UTC", 8, false), ("EVENT", 12, false)];

fn events(app: &App, place: usize, area: Rect) -> Table<'static> {
    let room = usize::from(area.height.saturating_sub(1));
    let width = usize::from(area.width.saturating_sub(EVENTS[0].1 + 1));
    let rows = app.events(place).take(room).flat_map(|event| {
        let level = match event.level.as_str() {
            "error" => Tone::Bad,
            "warn" => Tone::Odd,
            _ => Tone::Plain,
        };
        // Hours, minutes and seconds of an RFC 3339 time.
        let time: String = event.time.as_str().chars().skip(11).take(8).collect();
        let lines = wrapped(event.text.as_str(), width).into_iter().enumerate();
        lines.map(move |(number, line)| {
            let time = if number == 0 { time.clone() } else { String::new() };
            Cells::new(vec![cell(EVENTS[0], time, Style::new()), cell(EVENTS[1], line, tone(level))])
        })
    });
    table(&EVENTS, &[0, 1], rows.take(room).collect())
}

/// A text in lines that are no wider than this, broken at blanks where there are any.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let letters: Vec<char> = word.chars().collect();
        for (number, part) in letters.chunks(width).enumerate() {
            let gap = usize::from(used > 0 && number == 0);
            if used + gap + part.len() > width {
                lines.push(String::new());
                used = 0;
            } else if gap > 0 {
                lines.last_mut().into_iter().for_each(|line| line.push(' '));
                used += 1;
            }
            lines.last_mut().into_iter().for_each(|line| line.extend(part));
            used += part.len();
        }
    }
    lines
}

const CLIENTS: [Column; 7] = [
    ("CLIENT", 22, false),
    ("CONNS", 6, true),
    ("IN", 9, true),
    ("OUT", 9, true),
    ("OLDEST", 8, true),
    ("IDLE", 7, true),
    ("CONNECTED TO", 11, false),
];

fn clients(app: &App, place: usize, area: Rect) -> Table<'static> {
    let chosen = columns(&CLIENTS, &[0, 1, 6, 2, 3, 4, 5], area.width);
    let clients = match app.clients(place) {
        Ok(clients) => clients,
        Err(reason) => {
            let row = Cells::new(vec![cell(("", 0, false), reason.to_owned(), tone(Tone::Bad))]);
            return Table::new(vec![row], [Constraint::Fill(1)]);
        }
    };
    let selected = app.selected_client(&clients).filter(|_| place == app.focus);
    let rows = window(clients.len(), selected, area.height).map(|index| {
        let it = clients[index];
        let texts = [
            it.client.to_string(),
            it.connections.to_string(),
            bytes(it.bytes_in as f64),
            bytes(it.bytes_out as f64),
            it.oldest.map(age).unwrap_or_default(),
            it.idle.map(age).unwrap_or_default(),
            it.places(),
        ];
        let cells = chosen.iter().map(|&column| cell(CLIENTS[column], texts[column].clone(), Style::new()));
        let is_selected = selected == Some(index);
        let style = if is_selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Cells::new(cells.collect::<Vec<_>>()).style(style)
    });
    table(&CLIENTS, &chosen, rows.collect())
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let (width, height) = (66.min(area.width), (HELP.len() as u16 + 2).min(area.height));
    let left = area.x + (area.width - width) / 2;
    let top = area.y + (area.height - height) / 2;
    let area = Rect::new(left, top, width, height);
    frame.render_widget(Clear, area);
    let lines: Vec<Line> = HELP.iter().map(|line| Line::raw(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys (any key closes this) ")), area);
}

fn tone(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Odd => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
    }
}
