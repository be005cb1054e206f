//! The scripts around the program: each test has a machine of its own where glbd is installed.

mod demo;
mod exit_codes;
pub mod machine;
mod packaging;
mod seed;
mod service;
