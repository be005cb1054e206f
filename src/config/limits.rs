//! Which clients may connect to a service, and how many.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Of an IPv6 address that stands for an IPv4 one, the bits in front of that.
const MAPPED_PREFIX: u8 = 96;

/// Which clients may connect to a service, and how many; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitOptions {
    /// Networks whose clients may connect; none: all that are not denied.
    pub allow: Vec<IpNet>,
    /// Networks whose clients may not.
    pub deny: Vec<IpNet>,
    /// Most connections at a time.
    pub max_connections: Option<usize>,
    /// Most connections of one source at a time.
    pub max_connections_per_source: Option<u32>,
    /// Most new connections a second.
    pub connection_rate: Option<u32>,
    /// Most new connections of one source a second.
    pub connection_rate_per_source: Option<u32>,
    /// What happens to further clients, where the limit is not a source's.
    pub over_limit: OverLimit,
}

/// How the limit of a destination follows the load of its pool, as with HAProxy's `minconn` and `fullconn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    /// The limit is at least this.
    pub least: usize,
    /// It is what it may be at most once the pool has so many connections, clients that wait among them.
    pub full: usize,
}

/// What happens to the clients above a service's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OverLimit {
    /// They wait in the backlog.
    #[default]
    Wait,
    /// Their connections are reset.
    Reset,
}

/// Parses a network, or an address, which is a network of one. The IPv6 form of an IPv4 network is that network.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "not a network, such as 10.0.0.0/8 or 2001:db8::/32".to_owned())?;
    if network != network.trunc() {
        return Err(format!("it has bits behind its prefix; the network is {}", network.trunc()));
    }
    Ok(unmapped(network).unwrap_or(network))
}

fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let prefix = network.prefix_len().checked_sub(MAPPED_PREFIX)?;
    Some(IpNet::V4(Ipv4Net::new(network.addr().to_ipv4_mapped()?, prefix).ok()?))
}

pub(super) fn parse_over_limit(text: &str) -> Result<OverLimit, String> {
    match text {
        "wait" => Ok(OverLimit::Wait),
        "reset" => Ok(OverLimit::Reset),
        _ => Err("neither wait nor reset".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Refused};
    use super::*;

    #[test]
    fn networks_are_written_in_several_ways() {
        for (text, network) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ] {
            assert_eq!(parse_network(text).map(|network| network.to_string()).as_deref(), Ok(network), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_network_is_refused() {
        let told = "it has bits behind its prefix; the network is 10.0.0.0/8".to_owned();
        assert_eq!(parse_network("10.1.0.0/8"), Err(told));
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "db1", "10.0.0.1:3306"] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }

    /// What is said about a wrong command line.
    fn refused(words: &[&str]) -> String {
        let words = ["glbd", "1"].iter().chain(words).map(|word| (*word).to_owned());
        match Config::from_command_line(words) {
            Err(Refused::Wrong(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_that_contradict_each_other_or_do_nothing_are_refused() {
        let told = "--deny: 10.0.0.0/8 is in --allow as well";
        assert_eq!(refused(&["--allow=10.0.0.0/8", "--deny=::1,::ffff:10.0.0.0/104"]), told);
        assert!(refused(&["--over-limit=reset", "--connection-rate-per-source=1"]).starts_with("--over-limit: "));
    }

    #[test]
    fn what_is_wrong_with_the_limits_in_a_file_is_told_in_its_words() {
        let place = "4:14: service.main.over-limit";
        let text = "[pool.main]\n[service.main]\nlisten = 1\nover-limit = 'reset'\n";
        let told = "the service has no limit: there is neither max-connections nor connection-rate";
        match Config::from_text(text, &[]) {
            Err(Refused::WrongFile(reasons)) => assert_eq!(reasons, [format!("{place}: {told}")]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_that_are_printed_as_a_file_are_the_same() {
        let words = [
            "--allow=10.0.0.0/8,::1",
            "--deny=10.9.0.0/16",
            "--service-max-connections=5",
            "--max-connections-per-source=4",
            "--connection-rate=3",
            "--connection-rate-per-source=2",
            "--over-limit=reset",
        ];
        for words in [&words[..], &[]] {
            let words = || ["glbd", "1"].iter().chain(words).map(|word| (*word).to_owned());
            let config = Config::from_command_line(words()).expect("a command line");
            let Err(Refused::Show(text)) = Config::from_command_line(words().chain(["--print-config".to_owned()]))
            else {
                panic!("it is printed");
            };
            let (printed, _) = Config::from_text(&text, &[]).expect("a file without a fault");
            assert_eq!(printed.services[0].limits, config.services[0].limits, "{text}");
        }
    }

    #[test]
    fn options_that_glb_understood_when_shortened_still_are() {
        for words in [["--max", "7"], ["--connection", "7"], ["--max-connections", "7"], ["--ma", "7"]] {
            let words = ["glbd", "1"].iter().chain(&words).map(|word| (*word).to_owned());
            assert_eq!(Config::from_command_line(words).expect("a command line").max_connections, Some(7));
        }
        let words = ["glbd", "1", "--de"].map(str::to_owned);
        assert!(Config::from_command_line(words).expect("a command line").services[0].connections.defer_accept);
    }
}
