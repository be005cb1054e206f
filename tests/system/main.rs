//! What a user of glbd sees: every test here runs the built binary between real sockets.

mod changes;
mod documentation;
mod endings;
mod failover;
mod faults;
mod galera;
mod greeting;
mod harness;
mod idle;
mod init_scripts;
mod limits;
mod listening;
mod loops;
mod names;
mod options;
mod policies;
mod proxy_protocol;
mod relay;
mod reload;
mod services;
mod soak;
mod split;
mod state;
mod sticky;
mod threads;

mod command_line;
mod configuration;
mod control;
mod high_availability;
mod package;
mod peers;
mod process;
mod upgrade;
mod watchdog;
mod writer;
