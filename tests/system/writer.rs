//! One writer: with `--single`, two destinations never have clients in the same moment.

mod by_hand;
mod moves;
mod succession;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Builder, Glbd, Info, KernelsEnd, Server, Site, echoes, read_line, sites, wait_until};

/// A glbd with one writer that asks pages at this port, ten times a second, and waits for them as long as the machine
/// may need.
fn single(port: u16) -> Builder {
    Glbd::builder().args(["--single", "-i", "0.1", "--timeout", "30", "-w", &format!("http:{port}")])
}

/// A client, and which server it has come to.
fn session(glbd: &Glbd) -> (TcpStream, String) {
    let client = glbd.connect();
    let name = read_line(&client).expect("a name");
    (client, name)
}

/// The address of the row that is marked as the single destination.
pub fn single_of(info: &Info) -> Option<String> {
    info.rows.iter().find(|row| row.is_single).map(|row| row.address.clone())
}

fn wait_until_judged(glbd: &Glbd, destination: &impl ToString, wanted: &str) {
    let address = destination.to_string();
    wait_until(&format!("{address} is {wanted}"), || glbd.watch().row(&address).state == wanted);
}

/// Connections that glbd still has to a site, whether or not the site's server has noticed already what ended.
fn left_on(site: &Site) -> usize {
    KernelsEnd::established_towards(site.server.address())
}

/// A control command whose answer comes later.
fn later<'a>(glbd: &'a Glbd, command: &str, scope: &'a thread::Scope<'a, '_>) -> thread::ScopedJoinHandle<'a, String> {
    let command = command.to_owned();
    scope.spawn(move || glbd.control(&command))
}

/// Reads the name that a waiting client gets in the end.
fn waiting_client<'a>(glbd: &'a Glbd, scope: &'a thread::Scope<'a, '_>) -> thread::ScopedJoinHandle<'a, String> {
    scope.spawn(move || session(glbd).1)
}
