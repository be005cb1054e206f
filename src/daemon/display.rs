//! What a person at a terminal sees: the configuration, and the table from time to time.

use std::io::Write;
use std::time::Duration;

use log::warn;

use crate::config::{Config, ServiceConfig};
use crate::control;
use crate::repeat::{self, Repeating};
use crate::service::Inventory;

/// How often the table is shown.
const INTERVAL: Duration = Duration::from_secs(5);

/// Shows both on stdout, until it is closed or what this returns is dropped.
pub(super) fn start(config: &Config, fifo: &str, inventory: &Inventory, max_connections: usize) -> Option<Repeating> {
    let control = match &config.control[..] {
        [] => "none".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let of_each = |what: fn(&ServiceConfig) -> String| {
        let named = |it: &ServiceConfig| match config.services.len() {
            1 => what(it),
            _ => format!("{} {}", it.name, what(it)),
        };
        config.services.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    let start = format!(
        "glbd {}\n\
        Listening on:    {}\n\
        Control socket:  {control}\n\
        Control FIFO:    {fifo}\n\
        Policy:          {}\n\
        Threads:         {}\n\
        Max connections: {max_connections}\n",
        env!("CARGO_PKG_VERSION"),
        of_each(|it| it.listen.to_string()),
        of_each(|it| format!("{}{}", it.policy, if it.top { ", top weight only" } else { "" })),
        config.threads,
    );
    let inventory = inventory.clone();
    let (mut out, mut start) = (std::io::stdout(), Some(start));
    let show = move || {
        let setup = inventory.now();
        let mut text = start.take().unwrap_or_default() + &control::info(&setup, max_connections);
        if setup.pools.iter().any(|it| it.config.watchdog.is_some()) {
            text += &control::watch(&setup);
        }
        // Ends when the terminal is gone.
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let shown = repeat::start("display", Duration::ZERO, INTERVAL, show);
    shown.inspect_err(|error| warn!("cannot show the table: {error}")).ok()
}
