//! The first packet of a MySQL server, which decides whether it serves the client: the orders in which it, ends, resets
//! and the client's own bytes may come.

mod late;
mod mariadb;
mod orders;
mod packets;
mod refused;
