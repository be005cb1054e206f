//! The scripts around the program: each test has a machine of its own where glbd is installed.

pub mod copy;
mod demo;
mod exit_codes;
mod file;
pub mod machine;
mod packaging;
mod seed;
mod service;
mod systemd;
mod units;
mod upgrade;
mod users;
