//! Control addresses: where commands come from, and what they may do there.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::address::{Endpoint, Host, parse_listen_address};
use crate::process::socket_file::{LONGEST_PATH, SocketAccess};

/// Begins an address that is a path.
const UNIX: &str = "unix:";
/// Of a socket file, as of the FIFO: for its owner only.
const DEFAULT_MODE: u32 = 0o600;
/// The options of an address that is a path; one of TCP has the last only.
pub(super) const OPTIONS: [&str; 4] = ["owner", "group", "mode", "read-only"];
const READ_ONLY: &str = OPTIONS[3];

/// Where commands come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlAddress {
    /// Where it listens.
    pub place: ControlPlace,
    /// Nothing can be changed there.
    pub read_only: bool,
}

/// Where a control socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlPlace {
    /// At a TCP port.
    Tcp(Endpoint),
    /// At a path, for those who may write to it.
    Unix(PathBuf, SocketAccess),
}

impl ControlAddress {
    /// Returns true if both listen at the same place, regardless of permissions.
    pub fn is_at_place_of(&self, other: &ControlAddress) -> bool {
        match (&self.place, &other.place) {
            (ControlPlace::Tcp(own), ControlPlace::Tcp(other)) => own == other,
            (ControlPlace::Unix(own, _), ControlPlace::Unix(other, _)) => own == other,
            _ => false,
        }
    }

    /// The socket file.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            ControlPlace::Tcp(_) => None,
            ControlPlace::Unix(path, _) => Some(path),
        }
    }

    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.place {
            ControlPlace::Tcp(_) => None,
            ControlPlace::Unix(path, _) => Some(path),
        }
    }

    /// What [`parse_control`] reads as the same.
    pub fn spec(&self) -> String {
        let mut spec = self.to_string();
        if let ControlPlace::Unix(_, SocketAccess { owner, group, mode }) = &self.place {
            spec.extend(owner.iter().map(|owner| format!(",owner={owner}")));
            spec.extend(group.iter().map(|group| format!(",group={group}")));
            spec += &format!(",mode={mode:04o}");
        }
        if self.read_only { spec + "," + READ_ONLY } else { spec }
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            ControlPlace::Tcp(endpoint) => endpoint.fmt(f),
            ControlPlace::Unix(path, _) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Reads `[HOST:]PORT[,read-only]` or `unix:PATH[,owner=USER][,group=GROUP][,mode=MODE][,read-only]`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_control(text: &str) -> Result<ControlAddress, String> {
    let (address, options) = text.split_once(',').map_or((text, None), |(address, options)| (address, Some(options)));
    let is_path = address.starts_with(UNIX);
    let (mut access, mut read_only) = (SocketAccess { owner: None, group: None, mode: DEFAULT_MODE }, false);
    let mut given: Vec<&str> = Vec::new();
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        if given.contains(&name) {
            return Err(format!("'{name}' is given twice"));
        }
        given.push(name);
        match (name, value) {
            (READ_ONLY, None) => read_only = true,
            (READ_ONLY, Some(_)) => return Err(format!("'{READ_ONLY}' takes no value")),
            (name, _) if OPTIONS.contains(&name) && !is_path => {
                return Err(format!("'{name}' is for a socket at a path, unix:PATH"));
            }
            ("owner", Some(owner)) => access.owner = Some(parse_name(owner)?),
            ("group", Some(group)) => access.group = Some(parse_name(group)?),
            ("mode", Some(mode)) => access.mode = parse_mode(mode)?,
            (name, None) if OPTIONS.contains(&name) => {
                return Err(format!("'{name}' needs a value, as in {name}=VALUE"));
            }
            (name, _) => return Err(format!("'{name}' is no option: there are {}", OPTIONS.join(", "))),
        }
    }
    let place = match address.strip_prefix(UNIX) {
        Some(path) => ControlPlace::Unix(parse_socket_path(path)?, access),
        None => {
            let address = parse_listen_address(address).map_err(|error| error.to_string())?;
            // Not the whole world unless it was asked for.
            let host = address.host.unwrap_or(Host::Address(std::net::Ipv4Addr::LOCALHOST.into()));
            ControlPlace::Tcp(Endpoint { host, port: address.port })
        }
    };
    Ok(ControlAddress { place, read_only })
}

fn parse_socket_path(path: &str) -> Result<PathBuf, String> {
    match path.len() {
        0 => Err("the path is empty".to_owned()),
        1..=LONGEST_PATH if path.ends_with('/') => Err("the path is a directory's".to_owned()),
        1..=LONGEST_PATH => Ok(PathBuf::from(path)),
        length => Err(format!("a socket's path has at most {LONGEST_PATH} bytes, and this one {length}")),
    }
}

fn parse_name(name: &str) -> Result<String, String> {
    if name.is_empty() { Err("the name is empty".to_owned()) } else { Ok(name.to_owned()) }
}

fn parse_mode(mode: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&mode.len()) && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let number = u32::from_str_radix(mode, 8).ok().filter(|number| octal && *number <= 0o777);
    number.ok_or_else(|| format!("'{mode}' is not a mode, such as 0660"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Config, Refused};
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, spec) in [
            ("8011", "127.0.0.1:8011"),
            ("10.0.0.1:8011,read-only", "10.0.0.1:8011,read-only"),
            ("[::]:8011", "[::]:8011"),
            ("unix:/run/glbd.sock", "unix:/run/glbd.sock,mode=0600"),
            ("unix:glbd.sock,mode=660,owner=a,group=b", "unix:glbd.sock,owner=a,group=b,mode=0660"),
            ("unix:/a b,read-only,mode=0666", "unix:/a b,mode=0666,read-only"),
        ] {
            let address = parse_control(text).expect(text);
            assert_eq!(address.spec(), spec, "{text}");
            assert_eq!(parse_control(spec), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_control_address_is_told() {
        let long = format!("unix:/{}", "x".repeat(LONGEST_PATH));
        for (text, told) in [
            ("unix:", "the path is empty"),
            ("unix:/run/", "the path is a directory's"),
            (&long, "a socket's path has at most 107 bytes, and this one 108"),
            ("unix:/a,mode=999", "'999' is not a mode, such as 0660"),
            ("unix:/a,mode=4755", "'4755' is not a mode, such as 0660"),
            ("unix:/a,mode=", "'' is not a mode, such as 0660"),
            ("unix:/a,mode", "'mode' needs a value, as in mode=VALUE"),
            ("unix:/a,owner=", "the name is empty"),
            ("unix:/a,read-only=yes", "'read-only' takes no value"),
            ("unix:/a,level=user", "'level' is no option: there are owner, group, mode, read-only"),
            ("unix:/a,mode=0600,mode=0660", "'mode' is given twice"),
            ("8011,mode=0600", "'mode' is for a socket at a path, unix:PATH"),
            ("8011,", "'' is no option: there are owner, group, mode, read-only"),
            ("localhost", "expected [HOST:]PORT"),
        ] {
            assert_eq!(parse_control(text), Err(told.to_owned()), "{text}");
        }
    }

    fn words(words: &[&str]) -> Result<Config, String> {
        let words = ["glbd", "3306"].iter().chain(words).map(|word| (*word).to_owned());
        Config::from_command_line(words).map_err(|refused| match refused {
            Refused::Show(text) | Refused::Wrong(text) => text,
            Refused::WrongFile(reasons) => reasons.join("\n"),
        })
    }

    fn specs(config: &Config) -> Vec<String> {
        config.control.iter().map(ControlAddress::spec).collect()
    }

    fn file(process: &str) -> Result<Config, String> {
        let text = format!("[process]\n{process}\n[pool.main]\n[service.main]\nlisten = 3306\n");
        match Config::from_text(&text, &[]) {
            Ok((config, _)) => Ok(config),
            Err(Refused::WrongFile(reasons)) => Err(reasons.join("\n")),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn there_may_be_several_each_once() {
        let config = words(&["-c", "8011", "--control=unix:/a", "-c8012,read-only", "-c", "8011"]).expect("in order");
        assert_eq!(specs(&config), ["127.0.0.1:8011", "unix:/a,mode=0600", "127.0.0.1:8012,read-only"]);
        let told = "--control: 127.0.0.1:8011 is given twice, with other options";
        let wrong = words(&["-c", "8011", "-c", "localhost:8011", "-c", "8011,read-only"]);
        assert_eq!(wrong.expect_err("it contradicts itself"), told);
        let told = "--control and --fifo cannot be the same file, '/a'";
        assert_eq!(words(&["--fifo", "/a", "-c", "unix:/a"]).expect_err("one file"), told);
    }

    #[test]
    fn a_file_says_the_same_in_every_form() {
        for (text, expected) in [
            ("control = 8011", &["127.0.0.1:8011"][..]),
            ("control = '[::1]:8011'", &["[::1]:8011"]),
            ("control = []", &[]),
            ("control = [8011, '8012,read-only']", &["127.0.0.1:8011", "127.0.0.1:8012,read-only"]),
            ("control = {address = 8011, read-only = true}", &["127.0.0.1:8011,read-only"]),
            (
                "control = ['unix:/a', {address = 'unix:/b', owner = 'o', group = 'g', mode = '660', read-only = false}]",
                &["unix:/a,mode=0600", "unix:/b,owner=o,group=g,mode=0660"],
            ),
        ] {
            let config = file(text).expect(text);
            assert_eq!(specs(&config), expected, "{text}");
        }
        for (text, told) in [
            ("control = 0", "2:11: process.control: '0': '0' is not a port (1 to 65535)"),
            ("control = [8011, 0]", "2:11: process.control: '0': '0' is not a port (1 to 65535)"),
            ("control = true", "2:11: process.control: this is true or false; it takes a port, a string or a section"),
            ("control = [[1]]", "2:11: process.control: this is a list; it takes a port, a string or a section"),
            ("control = {mode = '0660'}", "2:11: process.control: there is no 'address'"),
            (
                "control = {address = 1, adress = 2}",
                "2:11: process.control: no such key 'adress'; there are address, owner, group, mode, read-only",
            ),
            (
                "control = {address = 1, mode = 432}",
                "2:11: process.control: mode: this is a whole number; it takes a string",
            ),
            (
                "control = {address = 1, mode = '0660'}",
                "2:11: process.control: '1,mode=0660': 'mode' is for a socket at a path, unix:PATH",
            ),
            (
                "control = {address = 1, read-only = 1}",
                "2:11: process.control: read-only: this is a whole number; it takes true or false",
            ),
            (
                "control = {address = 'unix:/a', owner = 'a,read-only'}",
                "2:11: process.control: owner: 'a,read-only' has a comma in it",
            ),
            (
                "control = [1, {address = 1, read-only = true}]",
                "2:11: process.control: 127.0.0.1:1 is given twice, with other options",
            ),
        ] {
            assert_eq!(file(text).map(|it| specs(&it)), Err(told.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_printed_as_a_file_is_the_same() {
        for given in
            [&[][..], &["-c8011"], &["-c=unix:/a"], &["-c8011", "-cunix:/a,mode=0660,group=g", "-c1,read-only"]]
        {
            let config = words(given).expect("in order");
            let printed = words(&[given, &["--print-config"]].concat()).expect_err("it is printed");
            let (again, _) = Config::from_text(&printed, &[]).expect(&printed);
            assert_eq!(again.control, config.control, "{printed}");
        }
    }

    #[test]
    fn what_stands_beside_a_file_takes_the_place_of_all_that_the_file_says() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[process]\ncontrol = [1, 2]\n[pool.main]\n[service.main]\nlisten = 3306\n";
        std::fs::write(file.path(), text).expect("a file");
        let line = ["glbd", "--config", file.path().to_str().expect("text"), "-c", "3", "-c", "4"].map(str::to_owned);
        let config = Config::from_command_line(line).expect("in order");
        assert_eq!(specs(&config), ["127.0.0.1:3", "127.0.0.1:4"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_is_printed_is_read_back(text in "(unix:)?\\PC{0,20}(,(mode=|owner=)?\\PC{0,8})?") {
            if let Ok(address) = parse_control(&text) {
                prop_assert_eq!(parse_control(&address.spec()), Ok(address));
            }
        }
    }
}
