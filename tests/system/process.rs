//! The daemon as a process: going to the background, users, signals, what it leaves behind, and where it logs to.

mod daemonize;
mod display;
mod drain;
mod failures;
mod log_format;
mod pause;
mod pidfile;
mod proc;
mod restart;
mod signals;
mod syslog;
mod users;
