//! glbd: a multithreaded TCP load balancer with a weighted destination table that is changed at run time.
//!
//! The rooms, each of which uses only what stands below it:
//!
//! - [`daemon`] puts the parts together: binds everything, goes to the background, drops privileges, starts the
//!   threads, waits for signals.
//! - [`http`] is metrics, health, the API and the page, in a thread of its own.
//! - [`worker`] is the data path: threads that each run one event loop. Accept, pick, connect, relay, close.
//! - [`health`] makes verdicts of what the checker process reports, and writes them into the table.
//! - [`checker`] is that process: it asks destinations how they are, and holds no connection.
//! - [`control`] is the text protocol on a socket and a FIFO: parse, apply to the table, answer.
//! - [`names`] resolves the host names among the destinations again from time to time.
//! - [`state`] keeps in a file what was changed by hand, for the next start.
//! - [`service`] is where clients connect, and how their connections are treated; a service picks from a pool.
//! - [`pool`] is the weighted table of destinations with the policies that pick from it: the only state that the threads
//!   share. Workers, health, names and control do not know each other; they meet here.
//! - [`desired`] says what has to be done so that what is asked for is.
//! - [`config`] is what the user asked for, on the command line or in a file: one `Config`.
//! - [`resolve`] turns hosts into addresses, without making anybody wait.
//! - [`address`] parses and prints listening addresses and destinations.
//! - [`stats`] are counters, one padded set a worker, summed by whoever asks.
//! - [`process`] is the daemon as a process: background, users, limits, pid file.
//! - [`channel`] is the socket between two processes of glbd.
//! - [`repeat`] does something again and again.
//! - [`log`] writes to stderr, syslog or a file.
//! - [`supervise`] keeps threads going that carry no connections.
//! - [`counted`] prints numbers of things.
//! - [`verdict`] is what is said of a destination's health, in a word.
//! - [`sys`] has every unsafe line of the program, behind safe functions.
//!
//! The library exists for the program `glbd`, its tests and its benchmarks; it promises nothing to others.

pub mod address;
pub mod channel;
pub mod checker;
pub mod config;
pub mod connection_log;
pub mod control;
pub mod counted;
pub mod counters;
pub mod daemon;
pub mod desired;
pub mod health;
pub mod http;
pub mod log;
pub mod names;
pub mod pool;
pub mod process;
pub mod repeat;
pub mod resolve;
pub mod service;
pub mod sessions;
pub mod state;
pub mod stats;
pub mod status;
pub mod supervise;
pub mod sys;
pub mod verdict;
pub mod worker;
