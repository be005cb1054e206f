//! Reads an answer as a whole: one that ends early was sent by a server that is in trouble.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head that is read.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// The most interim answers (1xx) ahead of the final one.
const MAX_INTERIM: usize = 16;
/// As much of a body must arrive; what is behind it is not waited for.
const MAX_BODY: usize = 1024 * 1024;
/// The longest line ahead of a chunk.
const MAX_CHUNK_LINE: usize = 1024;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// There is none, or it ends with the connection.
    Unbounded,
    Length(u64),
    Chunked,
}

/// Reads an answer to its end, and returns its status.
///
/// # Errors
/// Those of the connection, `UnexpectedEof` for an answer that is cut short, and `InvalidData` for one that is not HTTP.
pub(in crate::checker) async fn read_status<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u16> {
    let mut received = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let (status, body, length) = loop {
            if let Some(head) = head(&received)? {
                break head;
            }
            if received.len() >= MAX_HEAD {
                return Err(invalid("its answer's head is too long"));
            }
            read_more(stream, &mut received, "its answer is not HTTP, or is cut short").await?;
        };
        received.drain(..length.min(received.len()));
        // The answer proper is still to come.
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let has_body = status >= 200 && !matches!(status, 204 | 304);
        match body {
            Body::Length(length) if has_body => read_length(stream, received, length).await?,
            Body::Chunked if has_body => read_chunks(stream, received).await?,
            _ => {}
        }
        return Ok(status);
    }
    Err(invalid(&format!("no final answer after {MAX_INTERIM} interim ones")))
}

async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, received: &mut Vec<u8>, if_ended: &str) -> io::Result<()> {
    match stream.read_buf(received).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, if_ended)),
        _ => Ok(()),
    }
}

const CUT_SHORT: &str = "its answer is cut short: the connection closed early";

async fn read_length<S: AsyncRead + Unpin>(stream: &mut S, mut received: Vec<u8>, length: u64) -> io::Result<()> {
    let mut left = usize::try_from(length).unwrap_or(MAX_BODY).min(MAX_BODY);
    while received.len() < left {
        left -= received.len();
        received.clear();
        read_more(stream, &mut received, CUT_SHORT).await?;
    }
    Ok(())
}

async fn read_chunks<S: AsyncRead + Unpin>(stream: &mut S, mut received: Vec<u8>) -> io::Result<()> {
    let mut total = 0_usize;
    while total < MAX_BODY {
        match httparse::parse_chunk_size(&received).map_err(|_| invalid("its answer has a chunk without a size"))? {
            // What may come behind the last chunk says nothing.
            httparse::Status::Complete((_, 0)) => return Ok(()),
            httparse::Status::Complete((line, size)) => {
                received.drain(..line.min(received.len()));
                // The data, and the end of its line.
                let mut left = usize::try_from(size).unwrap_or(MAX_BODY).min(MAX_BODY) + 2;
                total += left;
                while received.len() < left {
                    left -= received.len();
                    received.clear();
                    read_more(stream, &mut received, CUT_SHORT).await?;
                }
                received.drain(..left);
            }
            httparse::Status::Partial if received.len() > MAX_CHUNK_LINE => {
                return Err(invalid("its answer has a chunk without a size"));
            }
            httparse::Status::Partial => read_more(stream, &mut received, CUT_SHORT).await?,
        }
    }
    Ok(())
}

/// The status, where the body ends, and how long the head is, once that is complete.
fn head(received: &[u8]) -> io::Result<Option<(u16, Body, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&format!("its answer is not HTTP: {error}"))),
    };
    let status = response.code.ok_or_else(|| invalid("its answer has no status"))?;
    let mut body = Body::Unbounded;
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("transfer-encoding") && value.to_ascii_lowercase().ends_with("chunked") {
            body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-length") && body != Body::Chunked {
            body = Body::Length(value.parse().map_err(|_| invalid("its answer's Content-Length is not a number"))?);
        }
    }
    Ok(Some((status, body, length)))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
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
        let polled = pin!(read_status(&mut stream)).poll(&mut Context::from_waker(Waker::noop()));
        polled.map(|result| result.map_err(|error| error.to_string()))
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
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read_status(&mut &*answer)).map_err(|error| error.to_string())
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
        let chunks = |size: usize, count: usize| {
            format!("{head}{}", format!("{size:x}\r\n{}\r\n", "x".repeat(size)).repeat(count))
        };
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
            let _ = status(&answer);
            let _ = status(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
            let _ = status(format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{body}").as_bytes());
        }
    }
}
