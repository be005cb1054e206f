//! Conversations with a server: which checks log in, and what a login and the kept connection come to together.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::super::{Account, Dialer, Galera, WITHOUT_TLS, io_error};
use super::*;
use crate::checker::mysql::tests::{END, NATIVE, OK, greeting_with, packet, read_packet, refusal};
use crate::checker::option_file::{Credentials, OptionFile};
use crate::config::TlsMode;

const TLS: u32 = 1 << 11;
/// The length of a client's request for TLS; every answer to a greeting is longer.
const TLS_REQUEST: usize = 32;
const DONOR: [(&str, &str); 2] = [("wsrep_local_state", "2"), ("wsrep_local_state_comment", "Donor/Desynced")];

/// A server as it is at present, and what it has seen.
#[derive(Default)]
struct State {
    /// The variables in which it differs from [`FIT`].
    differences: Vec<(&'static str, &'static str)>,
    /// It refuses logins with this error.
    refuses: Option<u16>,
    /// It lets the account have so many connections, and refuses those beyond with this error.
    most: Option<(usize, u16)>,
    /// It offers TLS, which fails.
    has_broken_tls: bool,
    sessions: usize,
    logins: usize,
    requests_for_tls: usize,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(mut stream: TcpStream, state: Shared) -> io::Result<()> {
    let capabilities = if lock(&state).has_broken_tls { TLS } else { 0 };
    stream.write_all(&packet(0, &greeting_with(NATIVE, capabilities))).await?;
    if read_packet(&mut stream).await?.len() == TLS_REQUEST {
        lock(&state).requests_for_tls += 1;
        stream.write_all(b"this is no TLS").await?;
        return stream.read_to_end(&mut Vec::new()).await.map(drop);
    }
    let refused = let_in(&mut lock(&state));
    if let Some(code) = refused {
        return stream.write_all(&packet(2, &refusal(code, "no"))).await;
    }
    let result = converse(&mut stream, &state).await;
    // As in a real server, the place is free once the connection has ended.
    lock(&state).sessions -= 1;
    result
}

/// The number of the refusal; `None` for a client that is let in, and counts from now on.
fn let_in(state: &mut State) -> Option<u16> {
    state.logins += 1;
    let too_many = state.most.filter(|(most, _)| state.sessions >= *most).map(|(_, code)| code);
    let refused = state.refuses.or(too_many);
    state.sessions += usize::from(refused.is_none());
    refused
}

/// Answers until the client says goodbye.
async fn converse(stream: &mut TcpStream, state: &Shared) -> io::Result<()> {
    stream.write_all(&packet(2, OK)).await?;
    loop {
        let question = read_packet(stream).await?;
        let answer = match question.split_first() {
            Some((3, statement)) if statement.starts_with(b"SHOW ") => rows(&lock(state).differences),
            // MySQL's own, which MariaDB's variable is unknown to.
            Some((3, statement)) if statement.ends_with(b"max_statement_time = 60") => packet(1, &refusal(1193, "no")),
            Some((3, _)) => packet(1, OK),
            _ => return Ok(()),
        };
        stream.write_all(&answer).await?;
    }
}

fn rows(differences: &[(&'static str, &'static str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
    let rows = [&FIT[..], differences].concat().into_iter().map(|(name, value)| [text(name), text(value)].concat());
    let head = [&[2][..], b"first", b"second", END].map(<[u8]>::to_vec);
    let packets = head.into_iter().chain(rows).chain([END.to_vec()]);
    packets.zip(1..).flat_map(|(contents, sequence)| packet(sequence, &contents)).collect()
}

/// A server, and the probe that checks it.
struct Conversation {
    probe: Galera,
    state: Shared,
    runtime: Runtime,
}

impl Conversation {
    fn with(state: State, options: GaleraOptions) -> Conversation {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(state));
        runtime.spawn(accept(listener, Arc::clone(&state)));
        let file = OptionFile::new(options.clone(), Credentials::default()).expect("an account");
        Conversation {
            probe: Galera::new(address.into(), options, Account::new(file), Dialer::default()),
            state,
            runtime,
        }
    }

    /// With a login at each check.
    fn logging_in(state: State) -> Conversation {
        Conversation::with(state, GaleraOptions { login: 1, ..GaleraOptions::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn logins(&self) -> usize {
        self.state().logins
    }

    fn ask(&mut self, fresh: bool) -> Answer {
        self.runtime.block_on(self.probe.check(fresh)).expect("an answer")
    }

    fn check(&mut self) -> (Verdict, String) {
        let Answer { verdict, reason, .. } = self.ask(false);
        (verdict, reason)
    }
}

#[test]
fn the_kept_connection_is_asked_but_for_every_few_checks_and_those_that_follow_a_hint_or_a_refusal() {
    let options = GaleraOptions { login: 3, ..GaleraOptions::default() };
    let mut server = Conversation::with(State::default(), options);
    for (check, fresh, logins) in
        [(1, false, 1), (2, false, 1), (3, false, 1), (4, false, 2), (5, true, 3), (6, false, 3)]
    {
        assert_eq!(server.ask(fresh).verdict, Verdict::Ready);
        assert_eq!(server.logins(), logins, "check {check}");
    }
    server.state().refuses = Some(1045);
    for (fresh, logins) in [(true, 4), (false, 5)] {
        assert_eq!(server.ask(fresh).verdict, Verdict::Spare);
        assert_eq!(server.logins(), logins);
    }
    server.state().refuses = None;
    for logins in [6, 6] {
        assert_eq!(server.check(), (Verdict::Ready, String::new()));
        assert_eq!(server.logins(), logins);
    }
}

#[test]
fn a_node_is_judged_by_what_it_says_on_a_new_connection_and_on_the_kept_one() {
    let mut server = Conversation::with(State::default(), GaleraOptions::default());
    let down = (Verdict::Down, "wsrep_ready is OFF".to_owned());
    for (wsrep_ready, answer) in [("OFF", down.clone()), ("ON", (Verdict::Ready, String::new())), ("OFF", down)] {
        server.state().differences = vec![("wsrep_ready", wsrep_ready)];
        assert_eq!(server.check(), answer);
        assert_eq!((server.logins(), server.probe.kept.is_some()), (1, true));
    }
}

#[test]
fn a_server_that_refuses_the_watchdog_has_the_worse_of_that_and_of_what_it_says_on_the_kept_connection() {
    let cannot = |verdict, code| (verdict, format!("cannot log in: no (error {code}); without TLS"));
    let is = |verdict, reason: &str| (verdict, reason.to_owned());
    for (code, differences, (verdict, reason)) in [
        (1045, &[][..], cannot(Verdict::Spare, 1045)),
        (1045, &DONOR, cannot(Verdict::Spare, 1045)),
        (1045, &[("read_only", "ON")], is(Verdict::Avoid, "read_only is ON")),
        (1045, &[("wsrep_ready", "OFF")], is(Verdict::Down, "wsrep_ready is OFF")),
        (1040, &DONOR, is(Verdict::Avoid, "no (error 1040)")),
        (1047, &[("read_only", "ON")], is(Verdict::Down, "no (error 1047)")),
    ] {
        let options = GaleraOptions { login: 1, tls: Some(TlsMode::Off), ..GaleraOptions::default() };
        let mut server = Conversation::with(State::default(), options);
        assert_eq!(server.check().0, Verdict::Ready);
        let refusing =
            State { refuses: Some(code), differences: differences.to_vec(), sessions: 1, ..State::default() };
        *server.state() = refusing;
        // The connection is kept, and no refusal asks for a second login.
        for logins in [1, 2] {
            let answer = server.ask(false);
            assert_eq!(answer.verdict, verdict, "{code} {differences:?}");
            assert!(answer.reason.starts_with(&reason), "{code} {differences:?}: {}", answer.reason);
            assert_eq!((answer.galera.map(|facts| facts.size), answer.members.len()), (Some(3), 3));
            assert_eq!((server.logins(), server.state().sessions), (logins, 1));
        }
    }
}

#[test]
fn an_account_that_may_have_one_connection_is_no_reason_to_spare_a_server() {
    for code in [1203, 1226] {
        let mut server = Conversation::logging_in(State { most: Some((1, code)), ..State::default() });
        // The second login was one too many; from then on, the kept connection ends before another begins.
        for logins in [1, 3, 4, 5] {
            assert_eq!(server.check(), (Verdict::Ready, String::new()), "{code}");
            assert_eq!((server.logins(), server.state().sessions), (logins, 1), "{code}");
        }
    }
}

#[test]
fn tls_that_fails_is_done_without_for_a_minute() {
    let mut server = Conversation::logging_in(State { has_broken_tls: true, ..State::default() });
    for (logins, requests_for_tls) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)] {
        if let (4, Some((_, since))) = (logins, &mut server.probe.tls_failure) {
            *since -= WITHOUT_TLS;
        }
        assert_eq!(server.check(), (Verdict::Ready, String::new()), "login {logins}");
        let state = server.state();
        assert_eq!((state.logins, state.requests_for_tls), (logins, requests_for_tls));
    }
    server.state().refuses = Some(1045);
    let (verdict, reason) = server.check();
    assert_eq!(verdict, Verdict::Spare);
    assert!(reason.starts_with("cannot log in: no (error 1045); without TLS, which failed: "), "{reason}");
}

#[test]
fn tls_that_is_required_and_fails_is_not_done_without() {
    let options = GaleraOptions { login: 1, tls: Some(TlsMode::Require), ..GaleraOptions::default() };
    let mut server = Conversation::with(State { has_broken_tls: true, ..State::default() }, options);
    for requests_for_tls in [1, 2] {
        let (verdict, reason) = server.check();
        assert_eq!(verdict, Verdict::Spare);
        assert!(reason.starts_with("cannot log in: TLS failed: "), "{reason}");
        let state = server.state();
        assert_eq!((state.logins, state.requests_for_tls), (0, requests_for_tls));
    }
}

#[test]
fn an_error_of_the_system_while_a_server_is_asked_stays_one() {
    let shortage = io::Error::from_raw_os_error(libc::ENOBUFS);
    assert_eq!(io_error(Error::Io(shortage)).raw_os_error(), Some(libc::ENOBUFS));
    let ended = io_error(Error::Io(io::ErrorKind::UnexpectedEof.into()));
    assert_eq!(ended.to_string(), "the server closed the connection");
}
