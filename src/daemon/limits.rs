//! How much fits into the limit of open files.

use crate::config::Config;
use crate::counted::Counted;
use crate::process;

/// How much fits into the limit of open files.
pub(super) struct Limits {
    /// Most client connections.
    pub connections: usize,
    /// Most control conversations.
    pub conversations: usize,
    /// Most pipes to splice through.
    pub pipes: usize,
    /// What the log should tell.
    pub notice: Option<String>,
}

impl Limits {
    /// A connection takes two descriptors. Kept free are: each worker's event queue and waker, its listening socket for each
    /// address of a service, and a second hold on the first and on the last; the control conversations; pipes to splice through, where there are many
    /// descriptors; and some for the rest of the program, name look-ups and the checker process included.
    pub(super) fn for_config(config: &Config) -> Result<Limits, String> {
        const FOR_THE_REST: usize = 20;
        // Of 1 MB each; what one user's pipes may hold is 64 MB unless fs.pipe-user-pages-soft says otherwise.
        const MOST_PIPES: usize = 48;
        const MOST_BY_DEFAULT: usize = 1_000_000;
        let addresses = config.services.iter().map(|service| service.listen.iter().count()).sum::<usize>();
        let each_worker = 3 + 2 * addresses;
        // HTTP has as many connections as the control port has conversations, and its event queue.
        let http = |conversations| if config.http.is_some() { conversations + 4 } else { 0 };
        let reserve = |conversations, pipes| {
            FOR_THE_REST + config.threads * each_worker + conversations + http(conversations) + 2 * pipes
        };
        let wanted = config.max_connections.map_or(0, |most| 2 * most + reserve(64, MOST_PIPES));
        let descriptors = process::raise_descriptor_limit(wanted as u64)
            .map_err(|error| format!("cannot read the limit of open files: {error}"))?;
        let (conversations, pipes) = if descriptors < 1024 { (8, 0) } else { (64, MOST_PIPES.min(descriptors / 64)) };
        let room = descriptors.saturating_sub(reserve(conversations, pipes)) / 2;
        if room == 0 {
            return Err(format!("the limit of {descriptors} open files leaves no room for connections"));
        }
        let connections = config.max_connections.unwrap_or(MOST_BY_DEFAULT).min(room);
        let notice = config.max_connections.filter(|wanted| *wanted > connections).map(|wanted| {
            let connections = Counted(connections, "connection");
            format!("the limit of {descriptors} open files allows {connections}, not {wanted}")
        });
        Ok(Limits { connections, conversations, pipes, notice })
    }
}
