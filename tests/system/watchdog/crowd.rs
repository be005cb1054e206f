//! Many destinations that never answer.

use std::time::{Duration, Instant};

use super::wait_until_judged;
use crate::harness::{Glbd, Server, SilentDestination, echoes, read_line, wait_until};

/// Accepts, and says nothing.
pub fn mute() -> Server {
    Server::serving(|stream| {
        let mut buffer = [0; 1024];
        while std::io::Read::read(&mut &*stream, &mut buffer).is_ok_and(|count| count > 0) {}
    })
}

fn watching(what: &str, destinations: &[String]) -> Glbd {
    Glbd::builder().args(["-t", "2", "-w", what, "-i", "0.2", "--timeout", "30"]).destinations(destinations).start()
}

/// A small message's way there and back, at the slowest of a hundred times.
fn slowest(glbd: &Glbd) -> Duration {
    let client = glbd.connect();
    read_line(&client).expect("a name");
    let trip = || {
        let begun = Instant::now();
        assert!(echoes(&client));
        begun.elapsed()
    };
    let mut trips: Vec<_> = (0..100).map(|_| trip()).collect();
    trips.sort();
    trips[98]
}

#[test]
fn a_hundred_destinations_that_hang_cost_nobody_anything() {
    let page = Server::serving(|mut stream| {
        let greeted = std::io::Read::read(&mut stream, &mut [0; 1024]).is_ok_and(|count| count > 0);
        if greeted {
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").ok();
        }
    });
    let mutes: Vec<Server> = (0..100).map(|_| mute()).collect();
    let alone = watching("http", &[page.to_string()]);
    let destinations: Vec<String> = std::iter::once(&page).chain(&mutes).map(|it| format!("{it}:1")).collect();
    let crowded = watching("http", &destinations);
    wait_until_judged(&crowded, &page, "READY");
    wait_until("all are being asked", || mutes.iter().all(|mute| mute.open() == 1));
    assert_eq!(crowded.threads().len(), alone.threads().len(), "{:?}", crowded.threads());
    let (idle, begun) = (crowded.cpu_time(), Instant::now());
    let checked = page.accepted();
    wait_until("the one that answers is checked all the while", || page.accepted() >= checked + 10);
    let (spent, took) = (crowded.cpu_time() - idle, begun.elapsed());
    assert!(spent < took / 4, "{spent:?} of processor time within {took:?}");

    let before = alone.descriptors();
    for mute in &mutes {
        crowded.change(format!("{mute}:-1"));
    }
    wait_until("their descriptors are free", || crowded.descriptors() <= before + 1);
}

#[test]
fn clients_of_a_healthy_destination_do_not_notice_a_hundred_that_hang() {
    let healthy = Server::named("a");
    // To make one takes a while.
    let starting: Vec<_> = (0..100).map(|_| std::thread::spawn(SilentDestination::start)).collect();
    let silent: Vec<_> = starting.into_iter().map(|thread| thread.join().expect("a silent destination")).collect();
    let alone = watching("tcp", &[healthy.to_string()]);
    let silent = silent.iter().map(|it| it.to_string()).chain([healthy.to_string()]).collect::<Vec<_>>();
    let crowded =
        Glbd::builder().args(["-t", "2", "-w", "tcp", "-i", "0.2", "--timeout", "0.5"]).destinations(&silent).start();
    wait_until_judged(&crowded, &healthy, "READY");
    // What is slow now and then may be the machine's doing, beside them or alone.
    wait_until("a client beside them is served as fast as one alone", || {
        slowest(&crowded) < slowest(&alone) + Duration::from_millis(50)
    });
}
