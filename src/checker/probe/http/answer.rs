//! Reads an answer as a whole: one that ends early was sent by a server that is in trouble.

#[cfg(test)]
mod tests;

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

/// An answer, as far as there is a use for it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::checker) struct HttpAnswer {
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Reads an answer to its end. So much of its body, if it may have one, is kept.
///
/// # Errors
/// Those of the connection, `UnexpectedEof` for an answer that is cut short, and `InvalidData` for one that is not HTTP.
pub(in crate::checker) async fn read_answer<S: AsyncRead + Unpin>(
    stream: &mut S,
    may_have_body: bool,
    kept: usize,
) -> io::Result<HttpAnswer> {
    let mut received = Vec::new();
    for _ in 0..=MAX_INTERIM {
        let (mut answer, body, length) = loop {
            if let Some(head) = head(&received)? {
                break head;
            }
            if received.len() >= MAX_HEAD {
                return Err(invalid("its answer's head is too long"));
            }
            read_more(stream, &mut received, "its answer is not HTTP, or is cut short").await?;
        };
        received.drain(..length.min(received.len()));
        let status = answer.status;
        // The answer proper is still to come.
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        if may_have_body && status >= 200 && !matches!(status, 204 | 304) {
            let mut reader = BodyReader { stream, received, body: &mut answer.body, kept };
            match body {
                Body::Length(length) => reader.pass(usize::try_from(length).unwrap_or(MAX_BODY).min(MAX_BODY)).await?,
                Body::Chunked => reader.pass_chunks().await?,
                Body::Unbounded => reader.keep_all().await?,
            }
        }
        return Ok(answer);
    }
    Err(invalid(&format!("no final answer after {MAX_INTERIM} interim ones")))
}

async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, received: &mut Vec<u8>, if_ended: &str) -> io::Result<()> {
    match stream.read_buf(received).await {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, if_ended)),
        // TLS that ends without saying so.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(io::Error::new(error.kind(), if_ended)),
        result => result.map(drop),
    }
}

const CUT_SHORT: &str = "its answer is cut short: the connection closed early";

/// Reads a body, and keeps the beginning of it.
struct BodyReader<'a, S> {
    stream: &'a mut S,
    /// What was read and is still to be looked at.
    received: Vec<u8>,
    body: &'a mut Vec<u8>,
    /// How much is kept.
    kept: usize,
}

impl<S: AsyncRead + Unpin> BodyReader<'_, S> {
    /// Passes over so many bytes of the body.
    async fn pass(&mut self, mut count: usize) -> io::Result<()> {
        loop {
            let now = count.min(self.received.len());
            let piece = self.received.drain(..now);
            let room = self.kept.saturating_sub(self.body.len());
            self.body.extend(piece.take(room));
            count -= now;
            if count == 0 {
                return Ok(());
            }
            read_more(self.stream, &mut self.received, CUT_SHORT).await?;
        }
    }

    async fn pass_chunks(&mut self) -> io::Result<()> {
        let mut total = 0_usize;
        while total < MAX_BODY {
            let line = httparse::parse_chunk_size(&self.received);
            match line.map_err(|_| invalid("its answer has a chunk without a size"))? {
                // What may come behind the last chunk says nothing.
                httparse::Status::Complete((_, 0)) => return Ok(()),
                httparse::Status::Complete((line, size)) => {
                    self.received.drain(..line.min(self.received.len()));
                    let size = usize::try_from(size).unwrap_or(MAX_BODY).min(MAX_BODY);
                    self.pass(size).await?;
                    // The end of its line is no part of the body.
                    let kept = std::mem::replace(&mut self.kept, 0);
                    self.pass(2).await?;
                    self.kept = kept;
                    total += size + 2;
                }
                httparse::Status::Partial if self.received.len() > MAX_CHUNK_LINE => {
                    return Err(invalid("its answer has a chunk without a size"));
                }
                httparse::Status::Partial => read_more(self.stream, &mut self.received, CUT_SHORT).await?,
            }
        }
        Ok(())
    }

    /// Reads a body that ends with the connection, as far as it is kept.
    async fn keep_all(&mut self) -> io::Result<()> {
        let left = |it: &Self| it.kept.saturating_sub(it.body.len());
        loop {
            let count = left(self).min(self.received.len());
            self.body.extend(self.received.drain(..count));
            if left(self) == 0 {
                return Ok(());
            }
            match read_more(self.stream, &mut self.received, "").await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                result => result?,
            }
        }
    }
}

/// The head, where the body ends, and how long the head is, once that is complete.
fn head(received: &[u8]) -> io::Result<Option<(HttpAnswer, Body, usize)>> {
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
    let headers = response.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect();
    Ok(Some((HttpAnswer { status, headers, body: Vec::new() }, body, length)))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
