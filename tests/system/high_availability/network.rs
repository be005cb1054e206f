//! A network that machines are plugged into: a switch, and on it the test's own servers and clients.

use std::fs::File;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::init_scripts::machine::Machine;

/// The network. It lives on a machine of its own, with whose end it is gone.
pub struct Network {
    machine: Machine,
}

impl Network {
    /// A network in which what runs inside has these addresses, such as 10.0.0.1/24.
    pub fn new(addresses: &[String]) -> Self {
        let network = Self { machine: Machine::boot(&[]) };
        // Without an address of its own it would take on that of a cable, and change it with the cables.
        network.run("ip link add switch address 02:00:00:00:00:01 type bridge");
        for address in addresses {
            network.run(&format!("ip address add {address} dev switch"));
        }
        network.run("ip link set switch up");
        network
    }

    /// Lays a cable of this name to a machine, which calls its end `interface` and has this address there.
    pub fn plug(&self, cable: &str, machine: &Machine, interface: &str, address: &str) {
        let process = machine.network();
        self.run(&format!("ip link add {cable} type veth peer name {interface} netns {process}"));
        self.run(&format!("ip link set {cable} master switch up"));
        machine.expect(&["ip", "address", "add", address, "dev", interface]);
        machine.expect(&["ip", "link", "set", interface, "up"]);
    }

    /// Takes the cable out of the switch, which the machine at its other end sees.
    pub fn pull(&self, cable: &str) {
        self.run(&format!("ip link set {cable} down"));
    }

    /// Puts it back.
    pub fn put_back(&self, cable: &str) {
        self.run(&format!("ip link set {cable} up"));
    }

    /// Has the switch forward nothing to and from the cable, which the machine does not see.
    pub fn isolate(&self, cable: &str) {
        self.run(&format!("bridge link set dev {cable} state 0"));
    }

    /// Ends that.
    pub fn join(&self, cable: &str) {
        self.run(&format!("bridge link set dev {cable} state 3"));
    }

    /// Does something in a thread whose sockets are in this network, as are those of threads it starts.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(|| self.enter_and(act)).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn enter_and<T>(&self, act: impl FnOnce() -> T) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.machine.network())).expect("the network");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the network, which only root may enter");
        act()
    }

    /// Runs a command inside. Not on the machine, where processes of others have no numbers.
    fn run(&self, command: &str) {
        let words: Vec<_> = command.split(' ').collect();
        let outcome = self.inside(|| Command::new(words[0]).args(&words[1..]).output());
        let outcome = outcome.expect("ip and bridge, from Debian's package iproute2");
        assert!(outcome.status.success(), "{command}: {outcome:?}");
    }
}
