use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::config::{GaleraOptions, ProbeSpec};

fn file(contents: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(contents).expect("a file");
    file
}

/// As `my_print_defaults` prints them.
fn printed(settings: &[Setting]) -> String {
    let print = |it: &Setting| match &it.value {
        Some(value) => format!("--{}={value}\n", it.name),
        None => format!("--{}\n", it.name),
    };
    settings.iter().map(print).collect()
}

/// What MariaDB's own reader makes of it; `None` if that refuses it, or is not installed.
fn mariadb(contents: &[u8]) -> Option<String> {
    let file = file(contents);
    let mut command = Command::new("my_print_defaults");
    command.arg(format!("--defaults-file={}", file.path().display())).args(GROUPS);
    let outcome = command.output().ok()?;
    outcome.status.success().then(|| String::from_utf8_lossy(&outcome.stdout).into_owned())
}

const FILES: [(&str, &str); 18] = [
    ("", ""),
    ("[client]\nuser=x\npassword=y\n", "--user=x\n--password=y\n"),
    ("[client-server]\nuser=x\n[client-mariadb]\npassword=y\n", "--user=x\n--password=y\n"),
    (" [client] \r\n  user = x \r\n password = y z # comment\r\n", "--user=x\n--password=y z\n"),
    ("[client ]\n\tuser\t=\tx\t\n", "--user=x\n"),
    ("[client]\nuser='x # y'\npassword=\" z \" # comment\n", "--user=x # y\n--password= z \n"),
    ("[client]\npassword=\"a\"#comment\n", "--password=a\n"),
    ("[client]\npassword=a#b=c;d\n", "--password=a\n"),
    ("[client]\npassword='a\"b'\n", "--password=a\"b\n"),
    ("[client]\npassword=\"a\\\"#b\"\n", "--password=a\"#b\n"),
    ("[client]\npassword=a\\sb\\\\c\\d\\te\n", "--password=a b\\c\\d\te\n"),
    ("[client]\npassword='\n", "--password='\n"),
    ("[client]\npassword=''\n", "--password=\n"),
    ("[client]\npassword=a'b#c'd\n", "--password=a'b#c'd\n"),
    ("[client]\npassword=a\\'#b\n", "--password=a'#b\n"),
    ("[client]\npassword\nport=3306\nquick # so\n", "--password\n--port=3306\n--quick\n"),
    ("[mysqld]\nuser=mysql\n[client]\nuser=x\n[mysqldump]\nuser=y\n[glbd]\nuser=z", "--user=x\n--user=z\n"),
    ("[client]\n#user=x\n;user=y\n \n", ""),
];

#[test]
fn option_files_are_read_as_mariadb_reads_them() {
    for (contents, expected) in FILES {
        assert_eq!(parse(contents.as_bytes()).as_deref().map(printed), Ok(expected.to_owned()), "{contents}");
        if let Some(theirs) = mariadb(contents.as_bytes()) {
            assert_eq!(theirs, expected, "{contents}");
        }
    }
}

#[test]
fn what_cannot_be_read_names_the_line_but_not_the_password() {
    for (contents, line, reason) in [
        (&b"[client]\n!include /etc/x\n"[..], 2, "other files cannot be included"),
        (b"\n[client\n", 2, "'[' without ']'"),
        (b"user=x\n[client]\n", 1, "an option ahead of the first [group]"),
        (b"[client]\n\npassword=secret\xff\n", 3, "not UTF-8"),
        (b"[client]\npassword=secret\0\n", 2, "a NUL"),
    ] {
        assert_eq!(parse(contents), Err((line, reason.to_owned())));
    }
    assert!(parse(&[b"[client]\npassword=".as_slice(), &[b'x'; 5000]].concat()).is_err());
}

fn read(contents: &str) -> Result<Credentials, String> {
    let file = file(contents.as_bytes());
    Credentials::for_checks(&ProbeSpec::Galera(options(&file)), None)
}

fn options(file: &NamedTempFile) -> GaleraOptions {
    GaleraOptions { defaults_file: Some(file.path().to_owned()), ..GaleraOptions::default() }
}

#[test]
fn certificates_that_are_missing_or_incomplete_are_an_error_at_the_start() {
    for (contents, reason) in [
        ("[client]\nssl-ca=/no/such/file\n", "line 2: /no/such/file: No such file or directory"),
        ("[client]\nssl_cert=/dev/null\n", "ssl-cert without ssl-key"),
        ("[client]\nssl_cert=/dev/null\nssl-key=/dev/null\n", "ssl-cert: no certificate in PEM"),
        ("[client]\nssl-mode=VERIFY_CA\n", "tls=verify-ca needs ssl-ca in the option file"),
        ("[client]\nssl-mode=maybe\n", "line 2: no such ssl-mode"),
        ("[client]\nssl-ca=/dev/zero\n", "line 2: /dev/zero: longer than 14336 bytes"),
    ] {
        let error = read(contents).expect_err("an error");
        assert!(error.contains(reason), "{error}");
    }
    for (contents, tls) in
        [("", true), ("[client]\nskip-ssl\n", false), ("[client]\nssl=0\n", false), ("[client]\nssl\n", true)]
    {
        let login = read(contents).and_then(|it| it.login(&GaleraOptions::default())).expect("an account");
        assert_eq!(login.tls.is_some(), tls, "{contents}");
    }
}

#[test]
fn a_file_is_read_again_when_it_changes_and_kept_when_it_is_broken() {
    let file = file(b"[client]\nuser=x\npassword=old\n");
    let credentials = Credentials::for_checks(&ProbeSpec::Galera(options(&file)), None).expect("an account");
    assert!(!format!("{credentials:?}").contains("old"));
    let mut watched = OptionFile::new(options(&file), credentials).expect("an account");
    assert_eq!(watched.refresh(), Ok(()));
    fs::write(file.path(), "[client]\nuser=x\npassword=new\n").expect("a file");
    assert_eq!(watched.refresh(), Ok(()));
    assert_eq!(watched.login().password, "new");
    fs::write(file.path(), "[client\npassword=broken\n").expect("a file");
    let error = watched.refresh().expect_err("it is broken");
    assert!(error.ends_with(", line 1: '[' without ']'; the credentials stay as they were"), "{error}");
    assert_eq!((watched.refresh(), watched.login().password.as_str()), (Ok(()), "new"));
    fs::remove_file(file.path()).expect("a file");
    assert!(watched.refresh().is_err());
    assert_eq!((watched.refresh(), watched.login().password.as_str()), (Ok(()), "new"));
    fs::write(file.path(), "[client]\npassword=newer\n").expect("a file");
    assert_eq!((watched.refresh(), watched.login().password.as_str()), (Ok(()), "newer"));
}

#[test]
fn a_file_that_every_user_may_write_to_is_refused() {
    let file = file(b"[client]\nuser=x\npassword=old\n");
    let read = || Credentials::for_checks(&ProbeSpec::Galera(options(&file)), None);
    let allow = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("a file of ours");
    let mut watched = OptionFile::new(options(&file), read().expect("an account")).expect("an account");
    allow(0o602);
    let error = read().expect_err("every user may write to it");
    assert!(error.ends_with(": every user may write to it (chmod o-w)"), "{error}");
    fs::write(file.path(), "[client]\npassword=forged\n").expect("a file");
    assert!(watched.refresh().is_err());
    assert_eq!(watched.login().password, "old");
    allow(0o620);
    assert_eq!((watched.refresh(), watched.login().password.as_str()), (Ok(()), "forged"));
}

/// Opening a pipe that has no writer would block the checker, and with it every check.
#[test]
fn a_pipe_is_not_read_while_checks_go_on() {
    let file = file(b"[client]\nuser=x\n");
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let credentials = Credentials::for_checks(&ProbeSpec::Galera(options(&file)), None).expect("an account");
    let mut watched = OptionFile::new(options(&file), credentials).expect("an account");
    fs::write(file.path(), format!("[client]\nuser=y\nssl-ca={}\n", pipe.display())).expect("a file");
    let error = watched.refresh().expect_err("a pipe");
    assert!(error.contains("not a regular file"), "{error}");
    assert_eq!(watched.login().user, "x");
    fs::remove_file(file.path()).and_then(|()| fs::rename(&pipe, file.path())).expect("a pipe in its place");
    assert!(watched.refresh().is_err() || watched.login().user == "x");
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(contents: Vec<u8>, text in "(\\[client\\]\n)?(\\PC|\n|[='\"\\\\# ]){0,60}") {
        let _ = (parse(&contents), parse(text.as_bytes()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_read_as_mariadb_reads_it(value in "[ab=;!'\"\\\\# \t]{0,12}") {
        let contents = format!("[client]\npassword={value}\n");
        if let Some(theirs) = mariadb(contents.as_bytes()) {
            prop_assert_eq!(printed(&parse(contents.as_bytes()).expect("an option file")), theirs);
        }
    }
}
