//! Host names as destinations, whose addresses change while glbd runs.

mod families;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::control::name_server::NameServer;
use crate::harness::daemon::Daemon;
use crate::harness::{Glbd, Server, echoes, free_port, names_of, read_line, said_goodbye, wait_until, with_mounted};

/// What the system knows of names, for one glbd.
struct Hosts(TempDir);

impl Hosts {
    fn new(text: &str) -> Self {
        let hosts = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::write(hosts.0.path().join("nsswitch.conf"), "hosts: files\n").expect("a file");
        hosts.say(text);
        hosts
    }

    /// From now on, these names are known: `ADDRESS NAME`, a line each.
    fn say(&self, text: &str) {
        // Into the same file: another one of this name would not be the mounted one.
        fs::write(self.0.path().join("hosts"), text).expect("a file");
    }

    fn wrapper(&self) -> Vec<String> {
        let [hosts, nsswitch] = ["hosts", "nsswitch.conf"].map(|name| self.0.path().join(name));
        with_mounted(&[(&hosts, "/etc/hosts"), (&nsswitch, "/etc/nsswitch.conf")])
    }

    fn glbd(&self, arguments: &[&str], destinations: &[String]) -> Glbd {
        Glbd::builder().wrapped_by(self.wrapper()).args(arguments).destinations(destinations).start()
    }
}

const OFTEN: [&str; 2] = ["--resolve", "0.1"];

fn named(host: u8, port: u16) -> Server {
    Server::named_at(&host.to_string(), SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), port)))
}

fn addresses(glbd: &Glbd) -> Vec<String> {
    glbd.info().rows.iter().map(|row| row.address.clone()).collect()
}

fn kill(glbd: &mut Glbd) {
    glbd.signal(Signal::SIGKILL);
    glbd.wait_exit();
}

#[test]
fn a_name_that_moves_takes_new_connections_along_and_the_old_ones_go_on() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}:2")]);
    let old = glbd.connect();
    assert_eq!(read_line(&old).expect("a name"), "2");
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log(&format!("destination db:{port} is at 127.0.0.3:{port} now, no longer at 127.0.0.2:{port}"));
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "3");
    assert!(echoes(&old), "the old connection goes on");
    assert_eq!(addresses(&glbd), [format!("127.0.0.3:{port}")]);
    assert_eq!(glbd.info().rows[0].weight, 2.0);
}

#[test]
fn an_address_that_the_name_still_has_is_kept_whatever_the_order() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}"), format!("other:{port}")][..1]);
    let before = addresses(&glbd);
    hosts.say("127.0.0.3 db\n127.0.0.2 db\n127.0.0.9 marker\n");
    glbd.change(format!("marker:{port}"));
    hosts.say("127.0.0.3 db\n127.0.0.2 db\n127.0.0.8 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.8:{port} now"));
    assert_eq!(addresses(&glbd)[..1], before[..], "a round has passed, and it did not move");
}

#[test]
fn a_name_that_does_not_resolve_any_more_changes_nothing_and_is_told_once() {
    let port = free_port();
    let _server = named(2, port);
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.4 marker\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}"), format!("marker:{port}:0")]);
    hosts.say("127.0.0.5 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.5:{port} now"));
    glbd.wait_for_log(&format!("destination db:{port}: "));
    hosts.say("127.0.0.6 marker\n");
    glbd.wait_for_log(&format!("destination marker:{port} is at 127.0.0.6:{port} now"));
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "2");
    assert_eq!(glbd.log().matches(&format!("destination db:{port}: ")).count(), 1, "{}", glbd.log());
}

#[test]
fn a_name_that_moves_to_where_another_destination_is_shares_it_and_the_old_connections_go_on() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}:5"), format!("127.0.0.3:{port}")]);
    let old = glbd.connect();
    assert_eq!(read_line(&old).expect("a name"), "2");
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log(&format!("destination db:{port} is at 127.0.0.3:{port} now, which is a destination already"));
    let new = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&new), ["3", "3"]);
    assert!(echoes(&old));
    drop(old);
    wait_until("the old address is gone", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
    // A hand wants it there, whatever becomes of the name.
    hosts.say("127.0.0.2 db\n");
    wait_until("it has moved again", || addresses(&glbd) == [3, 2].map(|host| format!("127.0.0.{host}:{port}")));
    hosts.say("127.0.0.3 db\n");
    wait_until("and again", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
    glbd.change(format!("db:{port}:-1"));
    assert_eq!(addresses(&glbd), [format!("127.0.0.3:{port}")]);
    assert!(new.iter().all(echoes));
}

#[test]
fn of_two_names_for_one_address_each_is_followed_and_each_can_be_removed() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 a\n127.0.0.2 b\n");
    let both = [format!("a:{port}"), format!("b:{port}")];
    let only = |host: u8| vec![format!("127.0.0.{host}:{port}")];
    let glbd = hosts.glbd(&OFTEN, &both);
    assert_eq!(addresses(&glbd), only(2));
    hosts.say("127.0.0.2 a\n127.0.0.3 b\n");
    wait_until("the second has moved", || addresses(&glbd) == [only(2), only(3)].concat());
    hosts.say("127.0.0.3 a\n127.0.0.3 b\n");
    wait_until("the first has followed", || addresses(&glbd) == only(3));
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "3");
    glbd.change(format!("a:{port}:-1"));
    assert_eq!(addresses(&glbd), only(3), "the other one wants it");
    assert!(echoes(&session));
    glbd.change(format!("b:{port}:-1"));
    assert_eq!(addresses(&glbd), [""; 0]);
    wait_until("it is closed", || !echoes(&session));
    // By hand at run time, too.
    both.iter().for_each(|name| glbd.change(name));
    glbd.change(format!("b:{port}:-1"));
    assert_eq!(addresses(&glbd), only(3));
    hosts.say("127.0.0.2 a\n");
    wait_until("the first has moved", || addresses(&glbd) == only(2));
}

#[test]
fn names_taken_whole_may_share_an_address() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 a\n127.0.0.3 a\n127.0.0.3 b\n127.0.0.4 b\n");
    let at = |hosts: &[u8]| hosts.iter().map(|host| format!("127.0.0.{host}:{port}")).collect::<Vec<_>>();
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("a:{port}"), format!("b:{port}")]);
    assert_eq!(addresses(&glbd), at(&[2, 3, 4]));
    hosts.say("127.0.0.2 a\n127.0.0.3 b\n127.0.0.4 b\n");
    glbd.wait_for_log(&format!("destination a:{port} is no longer at 127.0.0.3:{port}, which stays"));
    assert_eq!(addresses(&glbd), at(&[2, 3, 4]));
    hosts.say("127.0.0.2 a\n127.0.0.4 b\n");
    wait_until("nothing wants it", || addresses(&glbd) == at(&[2, 4]));
    glbd.change(format!("b:{port}:-1"));
    assert_eq!(addresses(&glbd), at(&[2]));
}

/// A name server that is not up yet when a machine starts must not keep the daemon from serving.
#[test]
fn a_name_that_does_not_resolve_at_the_start_is_a_destination_as_soon_as_it_does() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.3 other\n");
    let destinations = [format!("db:{port}:2"), format!("other:{port}"), format!("gone:{port}")];
    let glbd = hosts.glbd(&OFTEN, &destinations);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "3");
    let told = format!("destination db:{port} does not resolve yet: ");
    assert!(glbd.log().contains(&told), "{}", glbd.log());
    let watch = glbd.control("getwatch");
    let row = watch.lines().find(|line| line.contains("db:")).expect("a row").to_owned();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..5], [&format!("db:{port}"), ":", "+", "2.000", "UNRESOLVED"], "{watch}");
    assert!(watch.ends_with("Destinations: 1, unresolved: 2\n"), "{watch}");
    assert!(!glbd.control("getinfo").contains("db"));

    glbd.change(format!("gone:{port}:-1"));
    glbd.change(format!("db:{port}:3"));
    hosts.say("127.0.0.2 db\n127.0.0.3 other\n127.0.0.4 gone\n");
    // In the place that it has on the command line.
    wait_until("it is there", || addresses(&glbd) == [2, 3].map(|host| format!("127.0.0.{host}:{port}")));
    assert_eq!(glbd.info().rows[0].weight, 3.0);
    glbd.wait_for_log(&format!("destination 127.0.0.2:{port} added: db:{port} has it now"));
    assert_eq!(glbd.log().matches(&told).count(), 1);
    assert!(glbd.control("getwatch").ends_with("Destinations: 2\n"));
}

#[test]
fn a_name_is_asked_for_until_it_resolves_even_if_names_are_not_resolved_again() {
    let port = free_port();
    let _server = named(2, port);
    let hosts = Hosts::new("");
    let glbd = hosts.glbd(&["--resolve", "0"], &[format!("db:{port}")]);
    hosts.say("127.0.0.2 db\n");
    wait_until("it is there", || addresses(&glbd) == [format!("127.0.0.2:{port}")]);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "2");
    wait_until("nobody asks any more", || !glbd.threads().contains(&"names".to_owned()));
}

#[test]
fn a_name_that_does_not_resolve_at_a_restart_is_where_it_was() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state").display().to_string();
    let (hosts, options) = (Hosts::new("127.0.0.2 db\n127.0.0.4 gone\n"), ["--resolve", "0.1", "--state", &state]);
    let destinations = [format!("db:{port}:2"), format!("gone:{port}")];
    let mut glbd = hosts.glbd(&options, &destinations);
    glbd.change(format!("gone:{port}:-1"));
    // Nobody has said anything since it moved.
    hosts.say("127.0.0.3 db\n");
    wait_until("it has moved", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
    wait_until("that is kept", || fs::read_to_string(&state).is_ok_and(|text| text.contains("127.0.0.3")));
    kill(&mut glbd);
    hosts.say("");
    let glbd = hosts.glbd(&options, &destinations);
    assert_eq!(addresses(&glbd), [format!("127.0.0.3:{port}")]);
    assert_eq!(glbd.info().rows[0].weight, 2.0);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "3");
    assert!(glbd.log().contains(&format!("it is taken to be at 127.0.0.3:{port}, where it was")), "{}", glbd.log());
    assert!(!glbd.log().contains(&format!("destination gone:{port}")), "{}", glbd.log());
    hosts.say("127.0.0.2 db\n127.0.0.4 gone\n");
    wait_until("it is followed", || addresses(&glbd) == [format!("127.0.0.2:{port}")]);
}

#[test]
fn a_name_added_at_run_time_is_not_lost_at_a_restart_at_which_it_does_not_resolve() {
    let port = free_port();
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state").display().to_string();
    let (hosts, options) = (Hosts::new(""), ["--resolve", "0.1", "--state", &state]);
    let mut glbd = hosts.glbd(&options, &[format!("db:{port}")]);
    glbd.change(format!("db:{port}:3"));
    kill(&mut glbd);
    for _ in 0..2 {
        glbd = hosts.glbd(&options, &[]);
        assert!(glbd.control("getwatch").contains("3.000 UNRESOLVED"), "{}", glbd.log());
        // That it is written anew changes nothing.
        glbd.change(format!("127.0.0.9:{port}:1"));
        kill(&mut glbd);
    }
    hosts.say("127.0.0.2 db\n");
    let glbd = hosts.glbd(&options, &[]);
    assert_eq!(addresses(&glbd), [9, 2].map(|host| format!("127.0.0.{host}:{port}")));
}

#[test]
fn an_upgrade_goes_on_asking_for_a_name() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.3 a\n127.0.0.3 b\n");
    let (daemon, wrapper) = (Daemon::new(), hosts.wrapper());
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let names = ["a", "b", "db"].map(|name| format!("{name}:{port}"));
    let launch = daemon.launch_by(&wrapper, &[&OFTEN[..], &names.each_ref().map(String::as_str)].concat());
    assert_eq!(launch.status, Some(0), "{}", launch.stderr);
    daemon.upgrade();
    assert!(daemon.control("getwatch").contains("UNRESOLVED"));
    hosts.say("127.0.0.2 db\n127.0.0.3 a\n127.0.0.4 b\n");
    let addresses = || daemon.info().rows.iter().map(|row| row.address.clone()).collect::<Vec<_>>();
    wait_until("all are followed", || addresses() == [3, 2, 4].map(|host| format!("127.0.0.{host}:{port}")));
}

#[test]
fn what_was_done_by_hand_while_a_name_server_is_slow_is_not_undone_by_its_answer() {
    let (ports, names) = ([free_port(), free_port()], NameServer::start());
    let hosts = Hosts::new("127.0.0.2 gone.example\n127.0.0.2 drained.example\n");
    let wrapper = [names.wrapper(), with_mounted(&[(&hosts.0.path().join("hosts"), "/etc/hosts")])].concat();
    let (gone, drained) = (format!("gone.example:{}", ports[0]), format!("drained.example:{}", ports[1]));
    let options = ["--resolve", "0.1", "--resolve-all"];
    let glbd = Glbd::builder().wrapped_by(wrapper).args(options).destinations([&gone, &drained]).start();
    // Now the name server is asked, and keeps silent.
    hosts.say("");
    wait_until("both are asked for, by both kinds of address", || names.asked() >= 4);
    glbd.change(format!("{gone}:-1"));
    glbd.change(format!("{drained}:0"));
    names.answer();
    wait_until("there is an answer", || addresses(&glbd) == [format!("127.0.0.1:{}", ports[1])]);
    assert_eq!(glbd.info().rows[0].weight, 0.0);
    assert_eq!(glbd.log().matches(&ports[0].to_string()).count(), 1, "{}", glbd.log());
}

#[test]
fn names_that_hang_hold_up_neither_the_start_nor_other_names() {
    let port = free_port();
    let (names, _servers) = (NameServer::start(), [named(2, port), named(3, port)]);
    let hosts = Hosts::new("127.0.0.2 db\n");
    let hanging = (0..10).map(|number| format!("slow{number}.example:{port}"));
    let destinations: Vec<String> = hanging.chain([format!("db:{port}")]).collect();
    let wrapper = [names.wrapper(), with_mounted(&[(&hosts.0.path().join("hosts"), "/etc/hosts")])].concat();
    let glbd = Glbd::builder().wrapped_by(wrapper).args(OFTEN).destinations(&destinations).start();
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "2");
    assert!(glbd.control("getwatch").ends_with("Destinations: 1, unresolved: 10\n"));
    hosts.say("127.0.0.3 db\n");
    wait_until("it is followed", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
    assert!(glbd.log().contains("has not resolved within 5 s"), "{}", glbd.log());
    let threads = glbd.threads().iter().filter(|name| *name == "resolver").count();
    assert!(threads <= 16 + 11, "{threads}");
}

#[test]
fn without_resolving_again_a_name_stays_where_it_was() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n");
    let names_threads = |glbd: &Glbd| glbd.threads().iter().filter(|name| *name == "names").count();
    // A thread has its name a moment after it was started.
    let resolves = hosts.glbd(&[], &[format!("db:{port}")]);
    wait_until("there is a thread for that", || names_threads(&resolves) == 1);
    assert_eq!(names_threads(&hosts.glbd(&["--resolve", "0"], &[format!("db:{port}")])), 0);
}

#[test]
fn a_name_taken_whole_is_as_many_destinations_as_it_has_addresses_over_time() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port), named(4, port)];
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}:2")]);
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["2", "3"]);
    hosts.say("127.0.0.3 db\n127.0.0.4 db\n");
    wait_until("the old address is gone, the new one there", || {
        addresses(&glbd) == [3, 4].map(|host| format!("127.0.0.{host}:{port}"))
    });
    assert_eq!(glbd.info().rows[1].weight, 2.0, "the weight of the name");
    hosts.say("127.0.0.2 db\n");
    wait_until("only one is left", || addresses(&glbd) == [format!("127.0.0.2:{port}")]);
}

#[test]
fn an_address_that_its_name_no_longer_has_serves_its_clients_to_the_end_and_takes_no_new_ones() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}")]);
    let held = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&held), ["2", "3"]);
    hosts.say("127.0.0.3 db\n");
    glbd.wait_for_log("the name no longer has the address 127.0.0.2");
    let more: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&more), ["3", "3", "3", "3"]);
    assert!(echoes(&held[0]));
    drop(held);
    wait_until("it is gone", || addresses(&glbd) == [format!("127.0.0.3:{port}")]);
}

#[test]
fn a_change_of_a_name_taken_whole_is_one_of_all_its_destinations() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve-all"], &[]);
    for weight in [1.0, 3.0, 0.0] {
        glbd.change(format!("db:{port}:{weight}"));
        assert_eq!(glbd.info().rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [weight, weight]);
    }
    glbd.change(format!("db:{port}:-1"));
    assert_eq!(addresses(&glbd).len(), 0);
}

#[test]
fn an_address_removed_by_hand_does_not_come_back_with_its_name() {
    let port = free_port();
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&["--resolve", "0.1", "--resolve-all"], &[format!("db:{port}")]);
    glbd.change(format!("127.0.0.2:{port}:-1"));
    hosts.say("127.0.0.2 db\n127.0.0.3 db\n127.0.0.4 db\n");
    wait_until("another address is there", || addresses(&glbd).len() == 2);
    assert_eq!(addresses(&glbd), [3, 4].map(|host| format!("127.0.0.{host}:{port}")));
}

/// What is refused where it is written as an address is not reached through a name either: glbd would connect to itself.
#[test]
fn addresses_to_which_nothing_can_be_connected_are_passed_over_and_told() {
    let port = free_port();
    for useless in ["0.0.0.0", "::", "224.0.0.1", "::ffff:0.0.0.0", "255.255.255.255"] {
        let _server = named(2, port);
        let hosts = Hosts::new("127.0.0.2 db\n");
        let passed_over = format!("db:{port}: its address {} is passed over", useless.trim_start_matches("::ffff:"));
        let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}")]);
        hosts.say(&format!("{useless} db\n"));
        glbd.wait_for_log(&passed_over);
        glbd.wait_for_log("the name has no address that can be connected to");
        assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}")], "it stays where it is");
        hosts.say(&format!("{useless} db\n{useless} other\n127.0.0.2 db\n127.0.0.3 other\n"));
        glbd.change(format!("other:{port}"));
        assert_eq!(addresses(&glbd), [2, 3].map(|host| format!("127.0.0.{host}:{port}")));
        let answer = {
            hosts.say(&format!("{useless} third\n"));
            glbd.control(&format!("third:{port}:1"))
        };
        assert!(answer.starts_with(&format!("Error: third:{port}: the name has no address that can be")), "{answer}");
        assert_eq!(names_of(&[glbd.connect()]).len(), 1);
    }
}

#[test]
fn an_ipv4_address_in_ipv6s_clothes_is_an_ipv4_address() {
    let port = free_port();
    let _server = named(2, port);
    let hosts = Hosts::new("::ffff:127.0.0.2 db\n");
    let glbd = hosts.glbd(&OFTEN, &[format!("db:{port}")]);
    assert_eq!(addresses(&glbd), [format!("127.0.0.2:{port}")]);
    // Its own, which it must not connect to.
    hosts.say(&format!("::ffff:{} db\n", glbd.address().ip()));
    let own = glbd.address();
    let answer = glbd.control(&format!("db:{}:1", own.port()));
    assert!(answer.contains("this daemon listens there itself"), "{answer}");
}

/// Nothing takes its place while the name has only an address that a hand has removed.
#[test]
fn a_destination_that_is_no_longer_an_address_of_its_name_is_not_shown_as_in_use() {
    let port = free_port();
    let _servers = [named(2, port), named(3, port)];
    let hosts = Hosts::new("127.0.0.2 db\n127.0.0.3 db\n");
    let glbd = hosts.glbd(&[&OFTEN[..], &["--resolve-all"]].concat(), &[format!("db:{port}")]);
    let [kept, removed] = [2, 3].map(|host| format!("127.0.0.{host}:{port}"));
    assert_eq!(glbd.control(&format!("{removed}:-1")), "Ok\n");
    assert_eq!(glbd.watch().row(&kept).weight_in_force, 1.0);
    hosts.say("127.0.0.3 db\n");
    wait_until("its weight is not in force", || glbd.watch().row(&kept).weight_in_force == 0.0);
    assert!(said_goodbye(&glbd.connect()), "it gets no clients");
}
