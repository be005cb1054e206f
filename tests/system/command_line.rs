//! The command line: GLB's options in all their spellings, getopt's habits, and one clear line about what is wrong.

mod accepted;
mod policy;
mod refused;
mod told;
