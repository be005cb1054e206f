//! What every test needs: the running daemon, its control client, real destinations, free ports, and patience.
//!
//! Everything here is cleaned up by `Drop`, so that a failed test leaves no process, thread or file behind.

pub mod client;
pub mod control;
pub mod daemon;
pub mod galera;
pub mod glbd;
pub mod kernel;
pub mod log;
pub mod manual;
pub mod mariadb;
pub mod mounts;
pub mod neighbour;
pub mod net;
pub mod payload;
pub mod proc;
pub mod programs;
pub mod servers;
pub mod site;
pub mod stage;
pub mod strace;
pub mod watch;

pub use client::{
    begin_to_connect_to, connect_from, connect_to, echoes, names_of, patient, read_line, reset, said_goodbye, was_reset,
};
pub use control::{Info, Stats};
pub use daemon::{Daemon, Launch};
pub use glbd::{Builder, Glbd, program};
pub use kernel::KernelsEnd;
pub use mounts::with_mounted;
pub use net::{PATIENCE, free_port, wait_until, wait_until_within};
pub use payload::Payload;
pub use programs::{copy_program, write_script};
pub use servers::{Server, SilentDestination};
pub use site::{Site, sites};
pub use stage::Stage;
pub use strace::Fault;
