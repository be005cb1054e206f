//! Destinations that are watched: who is fit, and who gets clients.

mod agents;
mod answers;
mod authentication;
mod check_proxy;
mod checker;
mod conversations;
mod crowd;
mod endurance;
mod galera;
mod hints;
mod options;
mod pages;
mod programs;
mod scripts;
mod split;
mod start;
mod stuck;
mod verdicts;
mod weights;

use crate::harness::{Builder, Glbd, wait_until};

/// A glbd that asks pages at this port, ten times a second, and waits for them as long as the machine may need.
fn asking(port: u16) -> Builder {
    Glbd::builder().args(["-i", "0.1", "--timeout", "30", "-w", &format!("http:{port}")])
}

fn state(glbd: &Glbd, destination: &impl ToString) -> String {
    glbd.watch().row(destination.to_string()).state.clone()
}

fn wait_until_judged(glbd: &Glbd, destination: &impl ToString, wanted: &str) {
    let what = format!("{} is {wanted}", destination.to_string());
    wait_until(&what, || state(glbd, destination) == wanted);
}
