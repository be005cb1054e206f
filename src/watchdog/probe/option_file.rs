//! MySQL's option files, as far as a client that logs in needs them: groups, names and values as in MySQL's manual,
//! "Using Option Files".

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The groups that are read; where both say something, the last one in the file counts.
const GROUPS: [&str; 2] = ["client", "glbd"];
const MAX_SIZE: u64 = 64 * 1024;

/// Who to log in as.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) password: Option<String>,
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials { user: "root".to_owned(), password: None }
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads `user` and `password` from an option file. What is `known` of them counts when the file may not be read.
    ///
    /// # Errors
    /// One line that names the file and says what is wrong.
    pub(super) fn read(path: &Path, known: Option<Credentials>) -> Result<Credentials, String> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text));
        if let (Err(error), Some(known)) = (&read, known)
            && error.kind() == ErrorKind::PermissionDenied
        {
            return Ok(known);
        }
        read.map_err(|error| format!("{}: {error}", path.display()))?;
        Credentials::parse(&text).map_err(|(line, reason)| format!("{}, line {line}: {reason}", path.display()))
    }

    /// An error is the number of a line, and what is wrong with it.
    fn parse(text: &str) -> Result<Credentials, (usize, String)> {
        let mut credentials = Credentials::default();
        let mut concerns_us = false;
        for (index, line) in text.lines().enumerate() {
            let told = |reason: &str| (index + 1, reason.to_owned());
            let line = line.trim();
            match line.chars().next() {
                None | Some('#' | ';') => {}
                Some('!') => return Err(told("other files cannot be included")),
                Some('[') => {
                    let group = line.split_once(']').ok_or_else(|| told("'[' without ']'"))?.0;
                    concerns_us = GROUPS.contains(&group.trim_start_matches('[').trim());
                }
                Some(_) if concerns_us => credentials.set(line),
                Some(_) => {}
            }
        }
        Ok(credentials)
    }

    fn set(&mut self, line: &str) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        match name.trim_end() {
            "user" => self.user = unquote(value),
            "password" => self.password = Some(unquote(value)),
            // What else clients want to know.
            _ => {}
        }
    }
}

/// A value without what is written around it: blanks, a comment, quotes, escapes.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let quoted = quote.and_then(|quote| text.get(1..)?.rsplit_once(quote)).map(|(inside, _)| inside);
    let plain = || text.find(" #").map_or(text, |comment| text.get(..comment).unwrap_or(text)).trim_end();
    unescape(quoted.unwrap_or_else(plain))
}

fn unescape(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match rest.next() {
            Some('b') => value.push('\u{8}'),
            Some('t') => value.push('\t'),
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('s') => value.push(' '),
            Some('\\') | None => value.push('\\'),
            // Where a backslash escapes nothing, it stands for itself.
            Some(other) => value.extend(['\\', other]),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (String, Option<String>) {
        let credentials = Credentials::parse(text).expect("an option file");
        (credentials.user, credentials.password)
    }

    #[test]
    fn user_and_password_are_read_as_mysqls_clients_read_them() {
        for (text, user, password) in [
            ("", "root", None),
            ("user=x\n[client]\n", "root", None),
            ("[client]\nuser=x\npassword=y\n", "x", Some("y")),
            (" [client] \r\n  user = x \r\n password = y z # comment\r\n", "x", Some("y z")),
            ("[client]\nuser='x # y'\npassword=\" z \" # comment\n", "x # y", Some(" z ")),
            ("[client]\npassword=a\\sb\\\\c\\d\n", "root", Some("a b\\c\\d")),
            ("[client]\npassword=a#b=c;d\n", "root", Some("a#b=c;d")),
            ("[client]\npassword\nport=3306\nquick\n", "root", Some("")),
            ("[mysqld]\nuser=mysql\n[client]\nuser=x\n[mysqldump]\nuser=y\n", "x", None),
            ("[client]\nuser=x\npassword=y\n[glbd]\nuser=z\n", "z", Some("y")),
            ("[client]\n#user=x\n;user=y\n", "root", None),
        ] {
            assert_eq!(read(text), (user.to_owned(), password.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_without_the_password() {
        let refused = |text| Credentials::parse(text).expect_err("not an option file");
        assert_eq!(refused("[client]\n!include /etc/x\n"), (2, "other files cannot be included".to_owned()));
        assert_eq!(refused("\n[client\n"), (2, "'[' without ']'".to_owned()));
        let missing = Credentials::read(Path::new("/no/such/file"), None).expect_err("there is no such file");
        assert!(missing.starts_with("/no/such/file: "), "{missing}");
        let credentials = Credentials::parse("[client]\npassword=secret\n").expect("an option file");
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[client\\]\n)?(\\PC|\n|[='\"\\\\# ]){0,60}") {
            let _ = Credentials::parse(&text);
        }

        #[test]
        fn a_quoted_value_is_what_it_was(value in "[a-zA-Z0-9 #;='!]{0,20}") {
            prop_assert_eq!(unquote(&format!(" \"{}\" ", value)), value);
        }
    }
}
