//! What is shown of a daemon: tables of its answers.

use super::model::{ClientLine, Connection, Destination, Event, History, Process, Service, Status};
use super::table::{Paint, Table, Tone, cell};
use super::text::{Text, age, bytes, second, since, took, weight};

/// `glbctl status`.
pub fn status(status: &Status, paint: Paint) -> String {
    let process = &status.process;
    let mut text = format!(
        "glbd {}, process {}, up {}: {} of {} connections, {} clients accepted, {} in, {} out\n\n",
        process.version,
        process.pid,
        age(process.uptime),
        process.connections,
        process.max_connections,
        process.accepted,
        bytes(process.bytes_in as f64),
        bytes(process.bytes_out as f64)
    );
    text += &services(status).show(paint);
    text += "\n";
    let titles = ["POOL", "DESTINATION", "VERDICT", ">FOR", ">WEIGHT", ">CONNS", ">TOTAL", ">FAILED", "ROLE", "REASON"];
    let mut table = Table::new(&titles);
    for (pool, destination) in status.destinations() {
        table.row([
            cell(if status.pools.len() > 1 { pool.name.as_str() } else { "" }),
            cell(&destination.address),
            verdict(destination),
            cell(lasts(status, destination)),
            cell(weights(destination)),
            cell(conns(destination.connections.now, destination.max_connections)),
            cell(destination.connections.total),
            failures(destination.connects.failures()),
            cell(if destination.writer { "writer" } else { "" }),
            cell(destination.remarks()),
        ]);
    }
    text += &shown(&table, "no destinations", paint);
    text + &notes(status, paint)
}

fn services(status: &Status) -> Table {
    let process = &status.process;
    let titles = [
        "SERVICE",
        "POOL",
        "LISTEN",
        "POLICY",
        ">CONNS",
        ">HIGHEST",
        ">TOTAL",
        ">TURNED AWAY",
        ">QUEUE",
        "STATE",
        "WRITER",
        "SINCE",
    ];
    let mut table = Table::new(&titles);
    for service in &status.services {
        table.row([
            cell(&service.name),
            cell(&service.pool),
            cell(&service.listen),
            cell(&service.policy),
            cell(conns(service.connections.now, service.max_connections)),
            cell(service.connections.highest),
            cell(service.connections.total),
            failures(service.turned_away()),
            cell(service.queue),
            state(service, process),
            cell(service.writer.as_ref().map(ToString::to_string).unwrap_or_default()),
            cell(service.writer_since.as_ref().map(|at| moment(status, at)).unwrap_or_default()),
        ]);
    }
    table
}

/// `glbctl destinations`.
pub fn destinations(status: &Status, paint: Paint) -> String {
    let titles = [
        "POOL",
        "DESTINATION",
        "NAMES",
        "VERDICT",
        "SINCE",
        ">WEIGHT",
        ">CONNS",
        ">HIGHEST",
        ">TOTAL",
        ">FAILED",
        ">CONNECT P99",
        ">CHECK",
        ">IN",
        ">OUT",
        ">DOWNS",
        "ROLE",
        "REASON",
    ];
    let mut table = Table::new(&titles);
    for (pool, destination) in status.destinations() {
        let names = destination.names.iter().filter(|name| **name != destination.address);
        let connect = destination.times("connect").and_then(|times| times.p99);
        table.row([
            cell(&pool.name),
            cell(&destination.address),
            cell(names.map(ToString::to_string).collect::<Vec<_>>().join(",")),
            verdict(destination),
            cell(destination.since.as_ref().map(second).unwrap_or_default()),
            cell(weights(destination)),
            cell(conns(destination.connections.now, destination.max_connections)),
            cell(destination.connections.highest),
            cell(destination.connections.total),
            failures(destination.connects.failures()),
            cell(connect.map(took).unwrap_or_default()),
            cell(if destination.latency > 0.0 { took(destination.latency) } else { String::new() }),
            cell(bytes(destination.bytes_in as f64)),
            cell(bytes(destination.bytes_out as f64)),
            cell(destination.down_count),
            cell(if destination.writer { "writer" } else { "" }),
            cell(destination.remarks()),
        ]);
    }
    shown(&table, "no destinations", paint) + &notes(status, paint)
}

/// A time, and how long ago that was.
fn moment(status: &Status, at: &Text) -> String {
    let ago = since(at, &status.process.time).map(|ago| format!(" ({})", age(ago.floor())));
    second(at) + &ago.unwrap_or_default()
}

/// For how long a destination has had its verdict.
fn lasts(status: &Status, destination: &Destination) -> String {
    let lasted = destination.since.as_ref().and_then(|at| since(at, &status.process.time));
    lasted.map(|lasted| age(lasted.floor())).unwrap_or_default()
}

/// What is to be said of pools.
fn notes(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    for pool in &status.pools {
        for name in &pool.unresolved {
            let said = format!("{}: name not resolved: {}", name.name, name.reason);
            text += &format!("{}\n", paint.text(&said, Tone::Bad));
        }
        if let Some(note) = &pool.checks_note {
            text += &format!(
                "{}\n",
                paint.text(&format!("pool {}: no checks at the moment: {note}", pool.name), Tone::Bad)
            );
        }
    }
    text
}

fn shown(table: &Table, nothing: &str, paint: Paint) -> String {
    if table.is_empty() { format!("{nothing}\n") } else { table.show(paint) }
}

fn verdict(destination: &Destination) -> (String, Tone) {
    (destination.verdict.to_string(), Tone::of(destination.verdict.as_str()))
}

fn state(service: &Service, process: &Process) -> (String, Tone) {
    let state = service.state(process);
    (state.to_owned(), if state == "ready" { Tone::Good } else { Tone::Bad })
}

fn failures(count: u64) -> (String, Tone) {
    (count.to_string(), if count > 0 { Tone::Odd } else { Tone::Plain })
}

/// The weight, and the one in force where that is another one.
fn weights(destination: &Destination) -> String {
    let (set, in_force) = (weight(destination.weight), weight(destination.weight_in_force));
    // Those without a verdict for clients have none in force, which their verdict says.
    if set == in_force || !destination.takes_clients { set } else { format!("{set} ({in_force})") }
}

fn conns(now: u64, most: Option<u64>) -> String {
    most.map_or_else(|| now.to_string(), |most| format!("{now}/{most}"))
}

/// `glbctl conns`.
pub fn connections(connections: &[Connection], paint: Paint) -> String {
    let titles = [
        "ID",
        "SERVICE",
        "CLIENT",
        "VIA",
        "LOCAL",
        "DESTINATION",
        "STATE",
        ">AGE",
        ">IDLE",
        ">IN",
        ">OUT",
        ">ATTEMPTS",
    ];
    let mut table = Table::new(&titles);
    let optional = |text: &Option<Text>| cell(text.as_ref().map(ToString::to_string).unwrap_or_default());
    for it in connections {
        table.row([
            cell(&it.id),
            cell(&it.service),
            cell(&it.client),
            optional(&it.via),
            optional(&it.local),
            optional(&it.destination),
            cell(&it.state),
            cell(age(it.age)),
            cell(age(it.idle)),
            cell(bytes(it.bytes_in as f64)),
            cell(bytes(it.bytes_out as f64)),
            cell(it.attempts.map(|attempts| attempts.to_string()).unwrap_or_default()),
        ]);
    }
    shown(&table, "no connections", paint)
}

/// `glbctl clients`.
pub fn clients(clients: &[ClientLine], paint: Paint) -> String {
    let mut table = Table::new(&["CLIENT", ">CONNS", ">IN", ">OUT", ">OLDEST", ">IDLE", "CONNECTED TO"]);
    for it in clients {
        table.row([
            cell(&it.client),
            cell(it.connections),
            cell(bytes(it.bytes_in as f64)),
            cell(bytes(it.bytes_out as f64)),
            cell(it.oldest.map(age).unwrap_or_default()),
            cell(it.idle.map(age).unwrap_or_default()),
            cell(it.places()),
        ]);
    }
    shown(&table, "no clients", paint)
}

/// A line of `glbctl events`.
pub fn event(event: &Event, paint: Paint) -> String {
    let tone = match event.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Odd,
        _ => Tone::Plain,
    };
    format!("{}  {:<13}  {}\n", event.time, event.kind, paint.text(event.text.as_str(), tone))
}

/// What `glbctl events --follow` shows in place of events that were missed.
pub fn missed(count: u64, paint: Paint) -> String {
    paint.text(&format!("({count} events were missed)"), Tone::Odd) + "\n"
}

/// `glbctl history` of all destinations.
pub fn last_day(status: &Status, paint: Paint) -> String {
    let titles = [
        "POOL",
        "DESTINATION",
        "VERDICT",
        ">FOR",
        ">TIMES DOWN",
        ">DOWN",
        ">TIMES AVOID",
        ">AVOID",
        ">TIMES SPARE",
        ">SPARE",
        "REASON",
    ];
    let mut table = Table::new(&titles);
    for (pool, it) in status.destinations() {
        let day = &it.last_day;
        let [down, avoid, spare] = [&day.down, &day.avoid, &day.spare].map(|it| cell(age(it.seconds.round())));
        table.row([
            cell(if status.pools.len() > 1 { pool.name.as_str() } else { "" }),
            cell(&it.address),
            verdict(it),
            cell(lasts(status, it)),
            failures(day.down.count),
            down,
            failures(day.avoid.count),
            avoid,
            cell(day.spare.count),
            spare,
            cell(&it.reason),
        ]);
    }
    format!("in the last 24 hours\n\n{}", shown(&table, "no destinations", paint))
}

/// `glbctl history` of one destination.
pub fn history(history: &History, paint: Paint) -> String {
    let verdict = |text: &str| paint.text(text, Tone::of(text));
    let mut text = format!("{} is {}", history.destination, verdict(history.verdict.as_str()));
    text += &if history.reason.is_empty() { "\n".into() } else { format!(": {}\n", history.reason) };
    let (day, all) = (&history.last_day, &history.seconds);
    let mut table = Table::new(&["", ">READY", ">SPARE", ">AVOID", ">DOWN", ">TIMES DOWN"]);
    let held = |seconds: f64| cell(age(seconds.round()));
    let days = [&day.ready, &day.spare, &day.avoid, &day.down].map(|day| held(day.seconds));
    let [ready, spare, avoid, down] = days;
    table.row([cell("last 24 hours"), ready, spare, avoid, down, cell(day.down.count)]);
    let [ready, spare, avoid, down] = [all.ready, all.spare, all.avoid, all.down].map(held);
    table.row([cell("since it was added"), ready, spare, avoid, down, cell(history.down_count)]);
    text += &format!("\n{}", table.show(paint));
    let mut table = Table::new(&["FROM", "VERDICT", ">FOR", "REASON"]);
    for spell in &history.changes {
        let verdict = (spell.verdict.to_string(), Tone::of(spell.verdict.as_str()));
        table.row([cell(&spell.time), verdict, cell(age(spell.seconds)), cell(&spell.reason)]);
    }
    if !table.is_empty() {
        text += &format!("\n{}", table.show(paint));
    }
    let before = history.change_count.saturating_sub(history.changes.len() as u64);
    if before > 0 {
        text += &format!("and {before} changes before these\n");
    }
    text
}

/// `glbctl stats`.
pub fn stats(status: &Status, paint: Paint) -> String {
    let process = &status.process;
    let mut text = format!(
        "since {} ({}): {} clients accepted, {} in, {} out\n",
        process.started,
        age(process.uptime),
        process.accepted,
        bytes(process.bytes_in as f64),
        bytes(process.bytes_out as f64)
    );
    let titles = [
        "",
        ">CONNS",
        ">HIGHEST",
        ">TOTAL",
        ">IN",
        ">OUT",
        ">TRIED",
        ">REFUSED",
        ">TIMED OUT",
        ">TURNED DOWN",
        ">FAILED",
        ">CONNECT P50",
        ">P99",
    ];
    let mut table = Table::new(&titles);
    let services = status.services.iter();
    let services = services
        .map(|it| (format!("service {}", it.name), it.connections, it.bytes_in, it.bytes_out, it.connects, &it.times));
    let of_destination = |it: &Destination| it.address.to_string();
    let destinations = status.destinations().map(|(_, it)| it);
    let destinations =
        destinations.map(|it| (of_destination(it), it.connections, it.bytes_in, it.bytes_out, it.connects, &it.times));
    for (name, connections, bytes_in, bytes_out, connects, times) in services.chain(destinations) {
        let connect = times.iter().find(|times| times.what.as_str() == "connect");
        let time = |time: Option<f64>| cell(time.map(took).unwrap_or_default());
        table.row([
            cell(name),
            cell(connections.now),
            cell(connections.highest),
            cell(connections.total),
            cell(bytes(bytes_in as f64)),
            cell(bytes(bytes_out as f64)),
            cell(connects.tried),
            failures(connects.refused),
            failures(connects.timed_out),
            failures(connects.turned_down),
            failures(connects.failed),
            time(connect.and_then(|it| it.p50)),
            time(connect.and_then(|it| it.p99)),
        ]);
    }
    text += &format!("\n{}", table.show(paint));
    let ends = ends(status);
    if !ends.is_empty() {
        text += &format!("\n{}", ends.show(paint));
    }
    text
}

/// The causes of ends of connections, in their order, and the titles of their columns.
const CAUSES: [(&str, &str); 14] = [
    ("client", ">BY CLIENT"),
    ("server", ">BY SERVER"),
    ("client-reset", ">CLIENT RESET"),
    ("server-reset", ">SERVER RESET"),
    ("idle", ">IDLE"),
    ("destination-closed", ">DESTINATION CLOSED"),
    ("kicked", ">KICKED"),
    ("no-destination", ">NO DESTINATION"),
    ("no-room", ">NO ROOM"),
    ("left-early", ">LEFT EARLY"),
    ("denied", ">DENIED"),
    ("header", ">BAD HEADER"),
    ("shortage", ">SHORTAGE"),
    ("stopped", ">STOPPED"),
];

/// Why connections have ended, of those causes that there were.
fn ends(status: &Status) -> Table {
    let mut titles = ["ENDED"; CAUSES.len() + 1];
    titles[1..].copy_from_slice(&CAUSES.map(|(_, title)| title));
    let mut table = Table::new(&titles);
    for service in &status.services {
        let counts = CAUSES.map(|(cause, _)| service.ended(cause));
        let mut cells = [const { (String::new(), Tone::Plain) }; CAUSES.len() + 1];
        cells[0] = cell(format!("service {}", service.name));
        for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            cells[place + 1] = cell(count);
        }
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::health::report;
    use super::super::model::{Filter, lines, value};
    use super::*;

    /// What no daemon says, and any program that pretends to be one may.
    const NUMBERS: [&str; 6] = ["0", "-0.0", "1e308", "-1e308", "5e-324", "1e10"];

    #[test]
    fn no_number_and_no_text_is_too_much() {
        for number in NUMBERS {
            for text in ["", "a", "\u{1f600}\u{301}"] {
                let times = format!(r#"[{{"what":"connect","p50":{number},"p99":{number}}}]"#);
                let most = u64::MAX;
                let connections = format!(r#"{{"now":{most},"highest":{most},"total":{most}}}"#);
                let connects = format!(r#"{{"refused":{most},"timed_out":{most},"failed":{most}}}"#);
                let answer = format!(
                    r#"{{"process":{{"uptime":{number},"connections":{most},"bytes_in":{most}}},
                        "services":[{{"name":"{text}","queue":{most},"connections":{connections}}},{{"queue":{most}}}],
                        "pools":[{{"destinations":[{{"max_connections":{most},"address":"{text}","weight":{number},
                        "weight_in_force":{number},"latency":{number},"verdict":"{text}","bytes_in":{most},
                        "connections":{connections},"connects":{connects},"times":{times}}}]}}]}}"#
                );
                let all: Status = value(&answer).expect("JSON");
                for shown in [status, destinations, stats, last_day].map(|report| report(&all, Paint::plain())) {
                    assert!(!shown.is_empty());
                }
                assert!(!report(Ok(all), &Filter::default(), 0, usize::MAX).text().is_empty());
                let answer = format!(
                    r#"{{"destination":"{text}","seconds":{{"READY":{number}}},"last_day":{{"DOWN":{{"seconds":{number}}}}},
                        "change_count":{most},"changes":[{{"seconds":{number}}}]}}"#
                );
                assert!(!history(&value(&answer).expect("JSON"), Paint::plain()).is_empty());
                let answer = format!(r#"{{"age":{number},"idle":{number},"bytes_in":{most}}}"#);
                assert!(!connections_of(&answer).is_empty());
            }
        }
    }

    fn connections_of(answer: &str) -> String {
        connections(&lines::<Connection>(answer).expect("JSON"), Paint::plain())
    }
}
