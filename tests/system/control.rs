//! The control protocol, on its socket and on the FIFO.

mod abuse;
mod browser;
mod changes;
mod conversation;
mod counters;
mod events;
mod fifo;
mod floods;
mod http;
mod json;
pub mod name_server;
mod names;
mod netcats;
mod older_processes;
mod reports;
mod sessions;
mod sockets;
mod usual_fifo;
mod wait_empty;
