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

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer: Vec<u8>, body in "[0-9a-f\r\n;x]{0,40}") {
            let _ = status(&answer);
            let _ = status(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes());
            let _ = status(format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{body}").as_bytes());
        }
    }
}
