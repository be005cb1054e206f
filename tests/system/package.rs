//! The Debian package: what is in it, and its life on a machine, by Debian's own tools.

mod build;
mod contents;
mod host;
mod life;
mod manual;
mod upgrade;
