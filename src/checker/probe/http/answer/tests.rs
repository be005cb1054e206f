//! Answers in pieces, cut short, endless, and nonsense.

use super::*;
use proptest::prelude::*;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::ReadBuf;

/// A connection from which bytes come in pieces. It then ends, or nothing more comes.
struct Pieces<'a> {
    bytes: &'a [u8],
    size: usize,
    ends: bool,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = self.bytes.len().min(self.size).min(buffer.remaining());
        if count == 0 && !self.ends {
            return Poll::Pending;
        }
        let (piece, rest) = self.bytes.split_at(count);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}

/// What reading comes to; `Pending` while it waits for more.
fn read(bytes: &[u8], size: usize, ends: bool) -> Poll<Result<u16, String>> {
    let mut stream = Pieces { bytes, size, ends };
    let polled = pin!(read_answer(&mut stream, true, 0)).poll(&mut Context::from_waker(Waker::noop()));
    polled.map(|result| result.map(|answer| answer.status).map_err(|error| error.to_string()))
}

/// An answer, and its status.
fn answer() -> impl Strategy<Value = (Vec<u8>, u16)> {
    let chunk = ("[ -~]{1,40}", "(;[a-z]{1,9}(=[a-z]{1,9})?)?");
    let body = prop_oneof![
        Just(String::from("\r\n")),
        "[ -~]{0,300}".prop_map(|body| format!("content-LENGTH:  {}\r\n\r\n{body}", body.len())),
        prop::collection::vec(chunk, 0..6).prop_map(|chunks| {
            let chunk = |(data, extension): &(String, String)| format!("{:x}{extension}\r\n{data}\r\n", data.len());
            let chunks: String = chunks.iter().map(chunk).collect();
            format!("Content-Length: 9\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n{chunks}0\r\n")
        }),
    ];
    let status = prop_oneof![4 => 200..600u16, 1 => Just(101), 1 => Just(204), 1 => Just(304)];
    (0..3usize, status, body).prop_map(|(interim, status, body)| {
        let interim = ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"][..]
            .iter()
            .cycle()
            .take(interim);
        let head = format!("HTTP/1.1 {status} Word\r\nServer: s\r\n");
        let has_body = !matches!(status, 101 | 204 | 304);
        let end = if has_body { &body[..] } else { &body[..=body.find("\r\n\r\n").map_or(1, |end| end + 3)] };
        (interim.map(|it| it.to_string()).chain([head, end.to_owned()]).collect::<String>().into_bytes(), status)
    })
}

/// What reading an answer comes to that ends the connection.
fn status(answer: &[u8]) -> Result<u16, String> {
    body_of(answer, true, 0).map(|answer| answer.status)
}

/// The same, with so much of the body.
fn body_of(answer: &[u8], may_have_body: bool, kept: usize) -> Result<HttpAnswer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(read_answer(&mut &*answer, may_have_body, kept)).map_err(|error| error.to_string())
}

#[test]
fn of_a_body_the_beginning_is_kept_however_it_is_written() {
    for head in [
        "HTTP/1.1 200 OK\r\nAge: 1\r\nContent-Length: 9\r\n\r\nsome text",
        "HTTP/1.1 200 OK\r\nAge: 1\r\n\r\nsome text",
        "HTTP/1.1 200 OK\r\nAge: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ns\r\n8;x=y\r\nome text\r\n0\r\n\r\n",
    ] {
        for kept in [0, 4, 9, 100] {
            let answer = body_of(head.as_bytes(), true, kept).expect("an answer");
            assert_eq!(answer.body, "some text".as_bytes()[..kept.min(9)], "{head}");
            assert_eq!(answer.headers[0], ("Age".to_owned(), b"1".to_vec()));
        }
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(body_of(head, false, 100).map(|answer| answer.body), Ok(Vec::new()), "an answer to HEAD has none");
    assert_eq!(body_of(head, true, 100), Err(CUT_SHORT.to_owned()));
}

#[test]
fn an_answer_that_is_whole_has_a_status() {
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nto the end",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n4;a=b\r\nfour\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nVia: chunked\r\nContent-Length: 4\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    ] {
        assert_eq!(status(answer.as_bytes()), Ok(200), "{answer}");
    }
    assert_eq!(status(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"), Ok(204));
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n{}", "x".repeat(MAX_BODY));
    assert_eq!(status(long.as_bytes()), Ok(200));
}

#[test]
fn an_answer_that_is_cut_short_is_none() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfour",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
    ] {
        assert_eq!(status(answer.as_bytes()), Err(CUT_SHORT.to_owned()), "{answer}");
    }
    assert!(status(b"HTTP/1.1 200 OK\r\n").is_err());
    assert!(status(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").is_err());
    let never = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000) + "HTTP/1.1 200 OK\r\n\r\n";
    assert!(status(never.as_bytes()).is_err_and(|error| error.contains("after 16 interim ones")));
    assert!(status(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    assert!(status(&[b"HTTP/1.1 200 OK\r\na: ".as_slice(), &[b'x'; 20_000]].concat()).is_err());
}

#[test]
fn of_an_endless_answer_only_so_much_is_waited_for() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks =
        |size: usize, count: usize| format!("{head}{}", format!("{size:x}\r\n{}\r\n", "x".repeat(size)).repeat(count));
    assert_eq!(read(chunks(MAX_BODY, 1).as_bytes(), 4096, false), Poll::Ready(Ok(200)));
    assert_eq!(read(chunks(MAX_BODY / 4, 4).as_bytes(), 4096, false), Poll::Ready(Ok(200)));
    assert_eq!(read(chunks(MAX_BODY / 4, 3).as_bytes(), 4096, false), Poll::Pending);
    let huge = format!("{head}ffffffffffffffff\r\n{}", "x".repeat(MAX_BODY + 2));
    assert_eq!(read(huge.as_bytes(), 4096, false), Poll::Ready(Ok(200)));
    for (length, is_right) in [(MAX_CHUNK_LINE - 10, true), (MAX_CHUNK_LINE + 10, false)] {
        let line = format!("{head}1;{}", "x".repeat(length));
        assert_eq!(read(line.as_bytes(), 1, false).is_pending(), is_right, "{length}");
    }
    for (length, is_right) in [(MAX_HEAD - 1, true), (MAX_HEAD, false)] {
        let begin = "HTTP/1.1 200 OK\r\na: ";
        let head = format!("{begin}{}", "x".repeat(length - begin.len()));
        assert_eq!(read(head.as_bytes(), 1, false).is_pending(), is_right, "{length}");
    }
}

proptest! {
    #[test]
    fn an_answer_is_read_to_its_end_and_no_further_in_whatever_pieces_it_comes(
        (answer, status) in answer(), size in 1..50usize, cuts: [prop::sample::Index; 6]
    ) {
        prop_assert_eq!(read(&answer, size, false), Poll::Ready(Ok(status)), "nothing more is waited for");
        for length in cuts.map(|cut| cut.index(answer.len())).into_iter().chain([answer.len() - 1]) {
            prop_assert!(read(&answer[..length], size, false).is_pending(), "{length} bytes are not all");
            let ended = read(&answer[..length], size, true);
            prop_assert!(matches!(ended, Poll::Ready(Err(_))), "cut short after {length} bytes: {ended:?}");
        }
    }

    #[test]
    fn no_answer_makes_it_panic(answer: Vec<u8>, body in "[0-9a-f\r\n;x]{0,40}") {
        let _ = (status(&answer), body_of(&answer, true, 3));
        let _ = status(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
        let _ = status(format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{body}").as_bytes());
    }
}
