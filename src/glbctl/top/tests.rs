//! What keys do, and what is drawn.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::{Filter, value};
use super::app::{App, Effect, Mode, Sort};
use super::daemon::Look;
use super::view::draw;

/// An app that sees two daemons, the first of which has three destinations and was looked at twice.
fn app() -> App {
    let mut app = App::new(vec!["one:8011".into(), "two:8011".into()], Filter::default());
    let begun = Instant::now();
    app.saw(0, Ok(look(begun, 0)), begun);
    app.saw(0, Ok(look(begun + Duration::from_secs(2), 100)), begun);
    app
}

fn look(at: Instant, more: u64) -> Look {
    let destination = |number: u64, verdict: &str, conns: u64, reason: &str, writer: bool| {
        format!(
            r#"{{"address":"10.0.0.{number}:3306","weight":1,"verdict":"{verdict}","reason":"{reason}","writer":{writer},
                "since":"2026-11-27T08:00:12Z","connections":{{"now":{conns},"total":{}}},"bytes_in":{}}}"#,
            number * more,
            number * more * 1000
        )
    };
    let destinations = [
        destination(1, "READY", 40, "", true),
        destination(2, "DOWN", 0, "Connection refused (os error 111)", false),
        destination(3, "SPARE", 7, "donor \u{202e}\\u001b[2J", false),
    ];
    let status = format!(
        r#"{{"process":{{"version":"2.0.0","pid":7,"uptime":90061,"connections":47,"max_connections":9905,"accepted":{more}}},
            "services":[{{"name":"main","pool":"p","listen":"*:3306","single":true,"ready":true,"writer":"10.0.0.1:3306",
            "connections":{{"now":47}}}}],"pools":[{{"name":"p","destinations":[{}]}}]}}"#,
        destinations.join(",")
    );
    let events = [
        r#"{"number":1,"time":"2026-11-27T08:03:40.120Z","kind":"verdict","level":"warn","text":"destination 10.0.0.2:3306 DOWN"}"#,
    ];
    let clients = [
        r#"{"client":"10.9.9.1","connections":3}"#,
        r#"{"client":"10.9.9.2","connections":44}"#,
        r#"{"client":"unix:/run/glbd/mysql.sock","connections":1}"#,
    ];
    Look {
        at,
        status: value(&status).expect("JSON"),
        events: events.iter().map(|it| value(it).expect("JSON")).collect(),
        clients: Ok(clients.iter().map(|it| value(it).expect("JSON")).collect()),
    }
}

fn press(app: &mut App, keys: &str) -> Effect {
    let code = |key: char| match key {
        '\n' => KeyCode::Enter,
        '>' => KeyCode::Right,
        'v' => KeyCode::Down,
        '!' => KeyCode::Esc,
        other => KeyCode::Char(other),
    };
    let effects = keys.chars().map(|key| app.on_key(KeyEvent::new(code(key), KeyModifiers::NONE)));
    effects.last().expect("a key")
}

/// What is drawn on a terminal of this size.
fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, app)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(line).collect()
}

fn sent(command: &str) -> Effect {
    Effect::Send { daemon: 0, command: command.into() }
}

#[test]
fn nothing_is_sent_before_it_is_confirmed() {
    for (keys, command) in [
        ("d", "drain 10.0.0.1:3306"),
        ("vd", "drain 10.0.0.2:3306"),
        ("n", "enable 10.0.0.1:3306"),
        ("w0.5\n", "weight 10.0.0.1:3306:0.5"),
        ("vvW", "writer 10.0.0.3:3306"),
        ("K", "kick dest=10.0.0.1:3306"),
        ("cK", "kick client=10.9.9.2"),
        ("cvK", "kick client=10.9.9.1"),
        ("cvvK", "kick client=unix:/run/glbd/mysql.sock"),
    ] {
        let mut app = app();
        assert_eq!(press(&mut app, keys), Effect::Nothing, "{keys}");
        assert!(matches!(app.mode, Mode::Confirm { .. }), "{keys}: {:?}", app.mode);
        assert!(screen(&app, 80, 24).last().is_some_and(|line| line.contains("? ")), "{keys}");
        assert_eq!(press(&mut app, "y"), sent(command));
        press(&mut app, keys);
        for no in ["n", "\n", "!", "q"] {
            press(&mut app, keys);
            assert_eq!(press(&mut app, no), Effect::Nothing, "{keys}{no}");
        }
    }
}

#[test]
fn what_is_confirmed_is_what_was_asked_for_whatever_is_seen_meanwhile() {
    let mut app = app();
    press(&mut app, "sss");
    assert_eq!(app.sort, Sort::Connections);
    press(&mut app, "d");
    let mut other = look(Instant::now(), 200);
    other.status.pools[0].destinations.remove(0);
    app.saw(0, Ok(other), Instant::now());
    assert_eq!(press(&mut app, "y"), sent("drain 10.0.0.1:3306"));
}

#[test]
fn weights_that_are_none_are_not_sent() {
    for input in ["", "heavy", "-1", "nan", "inf", "1\u{1b}"] {
        let mut app = app();
        press(&mut app, "w");
        input.chars().for_each(|key| _ = press(&mut app, &key.to_string()));
        press(&mut app, "\n");
        assert!(!matches!(app.mode, Mode::Confirm { .. }) || input == "1\u{1b}", "{input}");
    }
}

#[test]
fn a_daemon_that_is_away_is_shown_as_such_and_comes_back() {
    let mut app = app();
    app.saw(0, Err("Connection refused".into()), Instant::now());
    let shown = screen(&app, 80, 24).join("\n");
    assert!(shown.contains("AWAY for 0s: Connection refused"), "{shown}");
    assert!(shown.contains("10.0.0.1:3306"), "what was there last: {shown}");
    press(&mut app, "d");
    assert!(!matches!(app.mode, Mode::Confirm { .. }), "what is shown of it is old");
    app.saw(0, Ok(look(Instant::now(), 300)), Instant::now());
    assert!(!screen(&app, 80, 24).join("\n").contains("AWAY"));
}

#[test]
fn rates_come_from_two_looks_at_the_same_daemon() {
    let mut app = app();
    let rates = app.daemons[0].rates_of(&("p".into(), "10.0.0.2:3306".into()));
    assert_eq!((rates.connections, rates.bytes_in), (100.0, 100_000.0));
    assert_eq!(app.daemons[0].rates.connections, 50.0);
    // It was started anew.
    let mut other = look(Instant::now() + Duration::from_secs(9), 5);
    other.status.process.started = super::super::text::Text::new("later");
    app.saw(0, Ok(other), Instant::now());
    assert_eq!(app.daemons[0].rates.connections, 0.0);
    // Counters that have gone backwards are no rate.
    let mut other = look(Instant::now() + Duration::from_secs(12), 1);
    other.status.process.started = super::super::text::Text::new("later");
    app.saw(0, Ok(other), Instant::now());
    assert_eq!(app.daemons[0].rates.connections, 0.0);
}

#[test]
fn destinations_are_sorted_and_filtered() {
    let mut app = app();
    let addresses = |app: &App| app.rows(0).iter().map(|row| row.key.1[7..8].to_owned()).collect::<String>();
    for order in ["123", "123", "231", "132", "321", "321", "123"] {
        assert_eq!(addresses(&app), order, "by {}", app.sort.name());
        press(&mut app, "s");
    }
    press(&mut app, "r");
    assert_eq!(addresses(&app), "321");
    press(&mut app, "/donor\n");
    assert_eq!(addresses(&app), "3");
    press(&mut app, "!");
    press(&mut app, "/WRITER\n");
    assert_eq!(addresses(&app), "1");
    press(&mut app, "/!");
    assert_eq!(addresses(&app).len(), 3);
}

#[test]
fn everything_is_on_a_small_terminal() {
    let mut app = App::new(vec!["one:8011".into()], Filter::default());
    app.saw(0, Ok(look(Instant::now(), 0)), Instant::now());
    let shown = screen(&app, 80, 24).join("\n");
    let texts = [
        "one:8011",
        "glbd 2.0.0",
        "up 1d 01h",
        "main",
        "ready",
        "*10.0.0.1:3306",
        "READY",
        "DOWN",
        "SPARE",
        "47/9905",
        "WRITER",
        "FOR",
        "Connection",
        "08:03:40",
        "?:help",
        "c,e:list",
    ];
    for text in texts {
        assert!(shown.contains(text), "{text} in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
}

#[test]
fn two_daemons_stand_side_by_side_on_a_small_terminal() {
    let mut app = app();
    app.saw(1, Err("Connection refused".into()), Instant::now());
    let lines = screen(&app, 80, 24);
    assert!(lines[1].contains("one:8011") && lines[1].contains("two:8011"), "{lines:#?}");
    let shown = lines.join("\n");
    for text in ["*10.0.0.1:3306", "READY", "DOWN", "ready", "AWAY for 0s: Connection refused"] {
        assert!(shown.contains(text), "{text} in\n{shown}");
    }
}

#[test]
fn no_size_and_no_number_of_daemons_is_too_much() {
    for daemons in [1, 2, 9] {
        let mut app = App::new((0..daemons).map(|it| format!("d{it}")).collect(), Filter::default());
        for keys in ["e", "c", ">", "?", "/abc", "!", "w"] {
            press(&mut app, keys);
            for (width, height) in [(1, 1), (2, 3), (20, 5), (38, 9), (80, 10), (80, 24), (81, 16), (300, 100)] {
                screen(&app, width, height);
                app.saw(0, Ok(look(Instant::now(), 1)), Instant::now());
            }
        }
    }
}

#[test]
fn keys_of_no_meaning_do_nothing() {
    let mut app = app();
    for code in [KeyCode::Null, KeyCode::F(12), KeyCode::Insert, KeyCode::Char('\u{7f}'), KeyCode::Char('Z')] {
        assert_eq!(app.on_key(KeyEvent::new(code, KeyModifiers::NONE)), Effect::Nothing);
    }
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    assert_eq!(app.on_key(control('z')), Effect::Suspend);
    assert_eq!(app.on_key(control('c')), Effect::Quit);
    // Of no daemon anything is known.
    let mut empty = App::new(vec!["one".into()], Filter::default());
    for key in "dnwWKcKesr/".chars() {
        assert_eq!(press(&mut empty, &key.to_string()), Effect::Nothing);
    }
}
