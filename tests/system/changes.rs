//! The table is changed while clients are served.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Glbd, Server, names_of, read_line, said_goodbye, wait_until};

#[test]
fn four_hundred_and_fifty_changes_under_load_fail_no_client_of_those_that_stay() {
    let tally = Arc::new(Tally::default());
    let staying = [polite("stays", &tally), polite("stays", &tally)];
    let moving = ["moves"; 3].map(Server::named);
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations(&staying).start();
    let done = &AtomicBool::new(false);
    let unserved = &AtomicUsize::new(0);
    let moved = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let _done_at_the_end = Done(done);
        for _ in 0..8 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    match short_visit(glbd.try_connect()) {
                        Visit::Cut(name) => assert_eq!(name, "moves", "a client was cut that should not have been"),
                        Visit::Served(name) if name == "moves" => _ = moved.fetch_add(1, Ordering::Relaxed),
                        Visit::Served(_) => {}
                        Visit::Unserved => _ = unserved.fetch_add(1, Ordering::Relaxed),
                    }
                }
            });
        }
        wait_until("the load is on", || tally.complete.load(Ordering::SeqCst) > 50);
        thread::scope(|changes| {
            for server in &moving {
                changes.spawn(|| change_for_long(&glbd, server));
            }
        });
    });
    assert!(moved.load(Ordering::Relaxed) > 0, "no client of the moving destinations was served to the end");
    wait_until("all have left", || glbd.info().total == 0);
    assert_eq!(tally.cut.load(Ordering::SeqCst), 0, "clients of the staying destinations failed");
    // A client that is cut before it is greeted cannot tell by whom: a removed destination must have had it.
    wait_until("a removed destination had every client that was not served", || {
        let taken: usize = moving.iter().map(Server::accepted).sum();
        unserved.load(Ordering::Relaxed) + moved.load(Ordering::Relaxed) <= taken
    });
    let rows: Vec<_> = glbd.info().rows.into_iter().map(|row| row.address).collect();
    assert_eq!(rows, staying.each_ref().map(|server| server.to_string()));
}

/// Adds, weighs, drains and removes: 150 changes, and clients in between.
fn change_for_long(glbd: &Glbd, server: &Server) {
    for _ in 0..30 {
        for change in ["", ":0", ":2.5", ":1", ":-1"] {
            let accepted = server.accepted();
            glbd.change(format!("{server}{change}"));
            if change.is_empty() || change == ":2.5" {
                wait_until("it is used", || server.accepted() > accepted);
            }
        }
    }
}

/// How the conversations with the staying servers ended, as those saw it.
#[derive(Default)]
struct Tally {
    complete: AtomicUsize,
    cut: AtomicUsize,
}

/// A server that greets, answers one line, and then expects the client to half-close.
fn polite(name: &'static str, tally: &Arc<Tally>) -> Server {
    let tally = Arc::clone(tally);
    Server::serving(move |mut stream| {
        let answered = writeln!(stream, "{name}").is_ok()
            && matches!(read_line(stream), Ok(line) if line == "hello" && writeln!(stream, "{line}").is_ok());
        let complete = answered && matches!(read_line(stream), Ok(line) if line.is_empty());
        if complete { &tally.complete } else { &tally.cut }.fetch_add(1, Ordering::SeqCst);
    })
}

enum Visit {
    Served(String),
    /// Greeted by this server, but not served to the end.
    Cut(String),
    Unserved,
}

/// Exchanges a few words with whoever is at the other end.
fn short_visit(client: io::Result<TcpStream>) -> Visit {
    let Ok(mut client) = client else { return Visit::Unserved };
    let name = match read_line(&client) {
        Ok(name) if !name.is_empty() => name,
        _ => return Visit::Unserved,
    };
    let said = writeln!(client, "hello").is_ok();
    if !(said && matches!(read_line(&client), Ok(line) if line == "hello")) {
        return Visit::Cut(name);
    }
    client.shutdown(Shutdown::Write).ok();
    // A server that is removed now resets, any other one ends cleanly.
    if said_goodbye(&client) { Visit::Served(name) } else { Visit::Cut(name) }
}

/// However the test ends, the load must, or the scope would wait for ever.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn long_conversations_survive_changes_of_their_destinations_weight() {
    let server = Server::named("stays");
    let other = Server::named("other");
    let glbd = Glbd::start([&server]);
    let mut client = glbd.connect();
    assert_eq!(read_line(&client).expect("a name"), "stays");
    for round in 0..100 {
        let weight = [0.0, 0.25, 3.0, 1.0][round % 4];
        glbd.change(server.weighted(weight));
        glbd.change(other.weighted(if round % 2 == 0 { 1.0 } else { -1.0 }));
        writeln!(client, "round {round}").expect("an open connection");
        assert_eq!(read_line(&client).expect("an echo"), format!("round {round}"));
    }
    assert_eq!(glbd.info().row(&server).conns, 1);
}

#[test]
fn a_removed_destinations_clients_are_reset_on_all_threads_and_the_others_go_on() {
    let (leaving, staying) = (Server::named("leaving"), Server::named("staying"));
    let glbd = Glbd::builder().args(["--threads", "4"]).destinations([&leaving, &staying]).start();
    let clients: Vec<_> = (0..40).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    glbd.change(leaving.weighted(-1.0));
    let (lost, kept): (Vec<_>, Vec<_>) = clients.into_iter().zip(names).partition(|(_, name)| name == "leaving");
    assert_eq!((lost.len(), kept.len()), (20, 20));
    for (client, _) in &lost {
        assert!(!said_goodbye(client), "a client of the removed destination saw a clean end");
    }
    for (client, _) in &kept {
        let mut client = client;
        writeln!(client, "still there?").expect("an open connection");
        assert_eq!(read_line(client).expect("an echo"), "still there?");
    }
    wait_until("the removed destination is left alone", || leaving.open() == 0);
    assert_eq!(glbd.info().total, 20);
}
