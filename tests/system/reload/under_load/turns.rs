//! What the file says in each turn.

use std::fmt::Write;

use crate::harness::{Server, free_port};

/// Names of the servers, by the pools that they are in.
pub const UNTOUCHED: [&str; 2] = ["u0", "u1"];
pub const STEADY: &str = "steady";
pub const CHANGING: [&str; 5] = [STEADY, "k0", "k1", "k2", "k3"];
pub const COMING: [&str; 3] = ["c0", "c1", "c2"];

/// The servers, the ports, and what is made of them.
pub struct Turns {
    untouched: [Server; 2],
    steady: Server,
    changing: [Server; 4],
    coming: [Server; 3],
    /// Nobody's destination.
    another: Server,
    pub ports: Ports,
}

/// Where services listen.
#[derive(Clone, Copy)]
pub struct Ports {
    pub untouched: u16,
    /// A writer that keeps to a destination which stays, in a pool that changes.
    pub writer: u16,
    /// Whose options change.
    pub changing: u16,
    /// Services that come and go.
    pub coming: [u16; 6],
}

impl Turns {
    pub fn new() -> Self {
        let ports = Ports {
            untouched: free_port(),
            writer: free_port(),
            changing: free_port(),
            coming: [0; 6].map(|_| free_port()),
        };
        Self {
            untouched: UNTOUCHED.map(Server::named),
            steady: Server::named(STEADY),
            changing: [0, 1, 2, 3].map(|number| Server::named(CHANGING[number + 1])),
            coming: COMING.map(Server::named),
            another: Server::echo(),
            ports,
        }
    }

    /// What is never changed.
    fn frame(&self, log: &str) -> String {
        let [first, second] = &self.untouched;
        let Ports { untouched, writer, .. } = self.ports;
        format!(
            "[process]\nthreads = 2\nuser = \"root\"\nlog = \"{log}\"\n\
             [pool.untouched]\ndestinations = [\"{first}\", \"{second}\"]\n\
             [service.untouched]\npool = \"untouched\"\nlisten = \"127.0.0.1:{untouched}\"\n\
             [service.writer]\npool = \"changing\"\nlisten = \"127.0.0.1:{writer}\"\npolicy = \"single\"\n"
        )
    }

    pub fn base(&self, log: &str) -> String {
        self.frame(log)
            + &format!(
                "[service.changing]\npool = \"changing\"\nlisten = \"127.0.0.1:{}\"\n\
                 [pool.changing]\ndestinations = [\"{}:5\"]\n",
                self.ports.changing, self.steady
            )
    }

    /// In each turn one destination, one pool and one service are new, others are gone, and others have changed.
    pub fn text(&self, turn: usize, log: &str) -> String {
        let mut text = self.frame(log);
        let Ports { changing, coming, .. } = self.ports;
        let (one, two) = (&self.changing[turn % 4], &self.changing[(turn + 1) % 4]);
        let weight = 1 + turn % 2;
        let policy = ["least-connected", "round-robin", "random", "source"][turn / 3 % 4];
        write!(
            text,
            "[pool.changing]\ndestinations = [\"{}:5\", \"{one}:{weight}\", \"{two}:{weight}\"]\ninterval = {weight}\n",
            self.steady
        )
        .expect("text");
        if (turn / 5).is_multiple_of(2) {
            // A check may be late because the machine is busy.
            text += "watchdog = \"tcp\"\ntimeout = 30\n";
        }
        write!(
            text,
            "[service.changing]\npool = \"changing\"\nlisten = \"127.0.0.1:{changing}\"\npolicy = \"{policy}\"\n\
             client-idle-timeout = {}\nmax-connections = {}\n",
            60 + turn % 2,
            5000 + turn
        )
        .expect("text");
        for step in [0, 1] {
            let (number, server) = (turn + step, &self.coming[(turn + step) % 3]);
            let checks = if number.is_multiple_of(4) { "watchdog = \"tcp\"\ninterval = 5\ntimeout = 30\n" } else { "" };
            write!(text, "[pool.c{}]\ndestinations = [\"{server}\"]\n{checks}", number % 3).expect("text");
        }
        for step in [0, 1, 2] {
            let number = turn + step;
            // Now and then, one that stays listens elsewhere.
            let port = coming[(number + turn / 7 % 2) % coming.len()];
            let pool = if step == 2 { "changing\"\navoid = \"writer".to_owned() } else { format!("c{}", number % 3) };
            let name = number % 4;
            let section = format!("[service.t{name}]\npool = \"{pool}\"\nlisten = \"127.0.0.1:{port}\"\n");
            text += &section;
        }
        text
    }

    /// A file that is wrong in one way, and what is said of it, in every fourth turn.
    pub fn wrong(&self, turn: usize, log: &str) -> Option<(String, &'static str)> {
        let right = self.text(turn, log);
        let untouched = self.ports.untouched;
        let faults = [
            (right.replace("[pool.changing]", "[pool.changing"), ":"),
            (format!("{right}quality = 1\n"), "no such key"),
            (right.replace("pool = \"untouched\"", "pool = \"nosuch\""), "nosuch"),
            (
                format!("{right}[service.taken]\npool = \"untouched\"\nlisten = \"{}\"\n", self.another),
                "cannot listen on",
            ),
            (format!("{right}[service.far]\npool = \"untouched\"\nlisten = \"203.0.113.7:1\"\n"), "cannot listen on"),
            (right.replace(":5\",", &format!(":5\", \"127.0.0.1:{untouched}\",")), "listen there itself"),
            (right.replace("max-connections = 5", "max-connections = -5"), "max-connections"),
            (String::new(), "there is no pool"),
        ];
        turn.is_multiple_of(4).then(|| faults[turn / 4 % faults.len()].clone())
    }
}
