//! Destinations that are watched: who is fit, and who gets clients.

mod answers;
mod crowd;
mod galera;
mod hints;
mod scripts;
mod start;
mod verdicts;
mod weights;

use crate::harness::{Builder, Glbd, wait_until};

/// A glbd that asks pages at this port, ten times a second.
fn asking(port: u16) -> Builder {
    Glbd::builder().args(["-i", "0.1", "-w", &format!("http:{port}")])
}

fn state(glbd: &Glbd, destination: &impl ToString) -> String {
    glbd.watch().row(destination.to_string()).state.clone()
}

fn wait_until_judged(glbd: &Glbd, destination: &impl ToString, wanted: &str) {
    let what = format!("{} is {wanted}", destination.to_string());
    wait_until(&what, || state(glbd, destination) == wanted);
}
