//! getinfo and getstat, which scripts take apart by columns and fields.

use std::net::TcpStream;
use std::time::Instant;

use crate::harness::{Glbd, Payload, Server, Stats, names_of, wait_until};

#[test]
fn getinfo_is_laid_out_as_glb_prints_it() {
    let glbd = Glbd::builder().args(["-m", "99"]).destinations(["127.0.0.1:33061:0.75"]).start();
    let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
      127.0.0.1:33061 :    0.750   0.000    N/A      0
------------------------------------------------------
Destinations: 1, total connections: 0 of 99 max
";
    assert_eq!(glbd.control("getinfo"), expected);
}

#[test]
fn getinfo_of_an_empty_table_is_laid_out_alike() {
    let glbd = Glbd::builder().args(["-m", "7"]).start();
    let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
------------------------------------------------------
Destinations: 0, total connections: 0 of 7 max
";
    assert_eq!(glbd.control("getinfo"), expected);
}

#[test]
fn getinfo_aligns_addresses_weights_and_shares() {
    let glbd = Glbd::builder()
        .args(["-m", "99", "--random"])
        .destinations(["127.0.0.2:1:1", "192.168.100.200:10000:12345.6789", "[2001:db8::1]:3306:0"])
        .start();
    let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
          127.0.0.2:1 :    1.000   0.000   0.000     0
192.168.100.200:10000 : 12345.679   0.000   1.000     0
   [2001:db8::1]:3306 :    0.000   1.000   1.000     0
------------------------------------------------------
Destinations: 3, total connections: 0 of 99 max
";
    assert_eq!(glbd.control("getinfo"), expected);
}

#[test]
fn map_is_the_upper_end_of_each_share_in_random_and_source_and_usage_follows_the_connections() {
    let servers = ["a", "b", "c"].map(Server::named);
    let destinations = [servers[0].weighted(1.0), servers[1].weighted(2.0), servers[2].weighted(1.0)];
    for option in ["--random", "--source"] {
        let glbd = Glbd::builder().arg(option).destinations(&destinations).start();
        let map: Vec<_> = glbd.info().rows.into_iter().map(|row| row.map).collect();
        assert_eq!(map, [Some(0.25), Some(0.75), Some(1.0)], "{option}");
    }

    let glbd = Glbd::start([&servers[0]]);
    let clients: Vec<TcpStream> = (0..3).map(|_| glbd.connect()).collect();
    names_of(&clients);
    let row = glbd.info().row(&servers[0]).clone();
    assert_eq!((row.usage, row.conns, row.map), (0.75, 3, None));
}

#[test]
fn getstat_is_laid_out_as_glb_prints_it() {
    let glbd = Glbd::start([""; 0]);
    let answer = glbd.control("getstat");
    let it = Stats::parse(&answer);
    // The other way round, no blank and no zero can differ unnoticed.
    let expected = format!(
        "in: {} out: {} recv: {} / {} send: {} / {} conns: {} / {} poll: {} / {} / {} elapsed: {:.5}\n",
        it.bytes_in,
        it.bytes_out,
        it.received,
        it.recv_calls,
        it.sent,
        it.send_calls,
        it.created,
        it.open,
        it.readable,
        it.writable,
        it.polls,
        it.elapsed
    );
    assert_eq!(answer, expected);
}

#[test]
fn getstat_counts_since_the_last_report() {
    let (sent, answered) = (Payload::new(1, 1554), Payload::new(2, 2256));
    let server = Server::serving({
        let (sent, answered) = (sent.clone(), answered.clone());
        move |stream| {
            sent.receive(stream);
            answered.send(stream).expect("a client that reads");
            std::io::copy(&mut &*stream, &mut std::io::sink()).ok();
        }
    });
    let glbd = Glbd::start([&server]);
    let stays = glbd.connect();
    wait_until("a client is there", || glbd.info().total == 1);
    let begun = Instant::now();
    let first = glbd.stats();
    assert_eq!((first.bytes_in, first.bytes_out, first.created, first.open), (0, 0, 1, 1));

    let leaves = glbd.connect();
    for client in [&stays, &leaves] {
        sent.send(client).expect("an open connection");
        answered.receive(client);
    }
    drop(leaves);
    wait_until("one has left", || glbd.info().total == 1);
    let second = glbd.stats();
    let elapsed = begun.elapsed().as_secs_f64();
    assert_eq!((second.bytes_in, second.bytes_out), (2 * 1554, 2 * 2256));
    assert_eq!((second.received, second.sent), (7620, 7620));
    assert!(second.recv_calls >= 4 && second.send_calls >= 4, "{second:?}");
    assert!(second.readable >= 4 && second.polls >= 1, "{second:?}");
    assert_eq!((second.created, second.open), (1, 1));
    assert!(second.elapsed > 0.0 && second.elapsed <= elapsed, "{} of {elapsed} s", second.elapsed);

    let third = glbd.stats();
    assert_eq!((third.bytes_in, third.bytes_out, third.received, third.sent), (0, 0, 0, 0));
    assert_eq!((third.recv_calls, third.send_calls, third.created, third.open), (0, 0, 0, 1));
}
