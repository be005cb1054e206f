//! Entry points for fuzzers (`fuzz/`): each hands bytes from outside to one of the checker's readers. What the fuzzers
//! found worth keeping is in `fuzz/corpus`, and is replayed by the tests.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::mysql::{Login, LoginTls, log_in};
use super::probe::{Conversation, Progress};
use super::{agent, option_file, probe, tls};
use crate::config::{Pattern, Step};

/// An entry point.
pub type Target = fn(&[u8]);

/// The entry points, by the names of their corpora.
pub const TARGETS: [(&str, Target); 6] = [
    ("mysql", mysql),
    ("http", http),
    ("script", script),
    ("option_file", option_file),
    ("conversation", conversation),
    ("agent", agent_line),
];

/// A server that says this, whatever it hears. The first byte chooses how to log in.
pub fn mysql(bytes: &[u8]) {
    let Some((choice, answers)) = bytes.split_first() else { return };
    static TLS: OnceLock<Option<LoginTls>> = OnceLock::new();
    let tls = TLS.get_or_init(|| {
        let config = tls::config(None, None).ok()?;
        Some(LoginTls { config, required: false, verified: true, has_certificate: false })
    });
    let password = match choice & 6 {
        0 => String::new(),
        2 => "x".repeat(230),
        _ => "secret".to_owned(),
    };
    let login = Login { user: "monitor".to_owned(), password, tls: tls.clone().filter(|_| choice & 1 == 1) };
    poll_once(async {
        let mut session = log_in(Replay(answers), IpAddr::V4(Ipv4Addr::LOCALHOST), &login).await.ok()?;
        while session.query("SHOW GLOBAL STATUS").await.is_ok() {}
        Some(())
    });
}

/// An HTTP server's answer.
pub fn http(bytes: &[u8]) {
    poll_once(probe::read_answer(&mut Replay(bytes), true, 100));
}

/// What a server says that is asked step by step.
pub fn conversation(bytes: &[u8]) {
    static CONVERSATION: OnceLock<Option<Conversation>> = OnceLock::new();
    let steps = || {
        let text = |bytes: &[u8]| Step::Expect(Pattern::Text(bytes.to_vec()));
        let line = |bytes: &[u8]| Step::Expect(Pattern::Line(bytes.to_vec()));
        let regex = Step::Expect(Pattern::Regex(r"(a|b)+\d{2,}".to_owned()));
        Conversation::new(&[text(b"+"), Step::Send(b"INFO\r\n".to_vec()), line(b"role:"), regex]).ok()
    };
    let Some(conversation) = CONVERSATION.get_or_init(steps) else { return };
    let mut progress = Progress::default();
    poll_once(async {
        let held = conversation.hold(&mut Replay(bytes), &mut progress).await;
        assert!(held.is_err() || !bytes.is_empty(), "nothing was answered: {held:?}");
    });
}

/// What an agent says.
pub fn agent_line(bytes: &[u8]) {
    // An error is as good as an answer.
    let _ = agent::parse(bytes);
}

/// A script's answer.
pub fn script(bytes: &[u8]) {
    // An error is as good as an answer.
    let _ = probe::parse_script_answer(bytes);
}

/// An option file.
pub fn option_file(bytes: &[u8]) {
    // The same.
    let _ = option_file::parse(bytes);
}

/// Polls a future that never waits.
fn poll_once(future: impl Future) {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready(), "it waits for what has arrived");
}

/// Has all that it will ever say, and does not listen.
struct Replay<'a>(&'a [u8]);

impl AsyncRead for Replay<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The inputs that are kept for a target.
    pub(crate) fn corpus(name: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("a file")).collect()
    }

    /// Hands a target what is in its corpus.
    pub(crate) fn replay(name: &str, target: Target) {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name}");
        corpus.iter().for_each(|bytes| target(bytes));
    }

    #[test]
    fn what_fuzzers_found_makes_nothing_panic() {
        TARGETS.into_iter().for_each(|(name, target)| replay(name, target));
    }

    proptest! {
        #[test]
        fn nor_does_what_is_like_it(seed: prop::sample::Index, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            for (name, target) in TARGETS {
                let corpus = corpus(name);
                let mut bytes = corpus[seed.index(corpus.len())].clone();
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                    target(&bytes);
                    bytes.truncate(cut.index(bytes.len()) + 1);
                }
                target(&bytes);
            }
        }
    }
}
