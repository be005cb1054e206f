//! Which policy a command line asks for, told from what the clients see.

use std::net::TcpStream;

use crate::harness::glbd::run;
use crate::harness::{Glbd, Server, names_of, wait_until};

/// The policy of a glbd that is started with these options.
fn policy(options: &[&str]) -> &'static str {
    let [one, two] = ["one", "two"].map(Server::named);
    let glbd = Glbd::builder().args(options).destinations([&one, &two]).start();
    let deals_in_shares = glbd.info().rows[0].map.is_some();
    let clients: Vec<TcpStream> = (0..40).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    match (deals_in_shares, names.iter().all(|name| *name == names[0])) {
        (true, true) => "source",
        (true, false) => "random",
        (false, true) => "single",
        (false, false) if fills_up_the_emptier(&glbd, &one, clients, &names) => "least",
        (false, false) => "round",
    }
}

/// Whether, after all clients of `one` have left, the next ones all go there.
fn fills_up_the_emptier(glbd: &Glbd, one: &Server, clients: Vec<TcpStream>, names: &[String]) -> bool {
    let stay: Vec<_> = clients.into_iter().zip(names).filter(|(_, name)| *name == "two").collect();
    wait_until("the others have left", || glbd.info().row(one).conns == 0);
    let next: Vec<TcpStream> = (0..stay.len() / 2).map(|_| glbd.connect()).collect();
    names_of(&next).iter().all(|name| name == "one")
}

#[test]
fn least_connected_is_the_policy_unless_another_is_asked_for() {
    assert_eq!(policy(&[]), "least");
    assert_eq!(policy(&["--top"]), "least");
}

#[test]
fn every_policy_is_asked_for_by_each_of_its_names() {
    for (name, spellings) in [
        ("round", ["-b", "--round", "--round-robin", "--rrb"].as_slice()),
        ("random", &["-r", "--random"]),
        ("source", &["-s", "--source", "--src_tracking", "--source_tracking"]),
        ("single", &["-S", "--single"]),
    ] {
        for spelling in spellings {
            assert_eq!(policy(&[spelling]), name, "{spelling}");
        }
    }
}

#[test]
fn a_policy_may_be_said_twice_and_two_policies_are_refused() {
    assert_eq!(policy(&["-b", "--round", "--rrb"]), "round");
    assert_eq!(policy(&["-S", "-S"]), "single");
    let contradictory = [["-b", "-r"], ["--source", "--rrb"], ["-S", "-s"], ["--single", "--random"], ["-br", "-v"]];
    for options in contradictory {
        let output = run(&[&options[..], &["8010"]].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("cannot be used with"), "{options:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn short_options_join() {
    assert_eq!(policy(&["-vst2"]), "source");
}

#[test]
fn long_policies_may_be_shortened() {
    assert_eq!(policy(&["--rou"]), "round");
    assert_eq!(policy(&["--ran"]), "random");
    assert_eq!(policy(&["--sou"]), "source");
    assert_eq!(policy(&["--si"]), "single");
}

#[test]
fn only_the_top_weight_counts_with_top_and_with_single() {
    let [low, high, highest] = ["low", "high", "high"].map(Server::named);
    for options in [["-T"].as_slice(), &["--top"], &["--top", "-b"], &["-rT"], &["-s", "--top"], &["-S"]] {
        let glbd = Glbd::builder()
            .args(options)
            .destinations([low.weighted(1.0), high.weighted(2.0), highest.weighted(2.0)])
            .start();
        let clients: Vec<TcpStream> = (0..20).map(|_| glbd.connect()).collect();
        assert_eq!(names_of(&clients), ["high"; 20], "{options:?}");
    }
}
