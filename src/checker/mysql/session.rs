//! A session: asks questions, one at a time, and ends in an orderly way.

use std::pin::pin;
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, AsyncWrite};

use super::error::{Error, Result};
use super::fields::{Fields, Value};
use super::packet::{MAX_PACKET, PacketStream};

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const MAX_COLUMNS: u64 = 64;
const MAX_ROWS: usize = 64;
/// The most text of one answer, in all.
const MAX_TEXT: usize = MAX_PACKET;
/// The length from which a packet that starts like the end of the rows is a row.
const MAX_END: usize = 9;

/// A connection whose login was accepted.
///
/// When it is dropped between two questions, the server is told, and does not count it as aborted.
pub struct Session<S: AsyncRead + AsyncWrite + Unpin> {
    packets: PacketStream<S>,
    /// False while a question is waiting for its answer.
    idle: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(packets: PacketStream<S>) -> Session<S> {
        Session { packets, idle: true }
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.packets.is_encrypted()
    }

    /// Asks a question, and returns the first two columns of each row. NULL and a missing column are empty.
    ///
    /// After an error other than [`Error::Server`] the session is of no use any more.
    ///
    /// # Errors
    /// The server's own error, a failed connection, or an answer that is too long or makes no sense.
    pub async fn query(&mut self, statement: &str) -> Result<Vec<(String, String)>> {
        self.idle = false;
        let result = self.answer(statement).await;
        self.idle = matches!(result, Ok(_) | Err(Error::Server(_)));
        result
    }

    async fn answer(&mut self, statement: &str) -> Result<Vec<(String, String)>> {
        self.packets.command(&[&[COM_QUERY], statement.as_bytes()].concat()).await?;
        let packet = self.packets.read().await?;
        let columns = match packet.first() {
            Some(0) => return Ok(Vec::new()),
            Some(_) => Fields::new(&packet).length_encoded().ok_or_else(|| Error::protocol("no number of columns"))?,
            None => return Err(Error::protocol("an empty packet instead of the columns")),
        };
        if !(1..=MAX_COLUMNS).contains(&columns) {
            return Err(Error::protocol(format!("{columns} columns")));
        }
        for _ in 0..columns {
            self.packets.read().await?;
        }
        if !is_end(&self.packets.read().await?) {
            return Err(Error::protocol("no end of the columns"));
        }
        self.rows(columns).await
    }

    async fn rows(&mut self, columns: u64) -> Result<Vec<(String, String)>> {
        let (mut rows, mut length) = (Vec::new(), 0_usize);
        loop {
            let packet = self.packets.read().await?;
            if is_end(&packet) {
                return Ok(rows);
            }
            length = length.saturating_add(packet.len());
            if rows.len() >= MAX_ROWS || length > MAX_TEXT {
                return Err(Error::protocol("more rows than were asked for"));
            }
            rows.push(row(&packet, columns).ok_or_else(|| Error::protocol("a row cut short"))?);
        }
    }

    /// Ends the session, and waits until the server closes the connection.
    pub async fn quit(mut self) {
        self.say_goodbye().await;
        // Whatever it may still say, until it says nothing more.
        while self.packets.read().await.is_ok() {}
    }

    async fn say_goodbye(&mut self) {
        if std::mem::take(&mut self.idle) {
            // There is nothing to be done about a connection that failed.
            let _ = self.packets.command(&[COM_QUIT]).await;
        }
    }
}

/// Tells the server as far as that takes no waiting; a few bytes hardly ever do.
impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Session<S> {
    fn drop(&mut self) {
        let _ = pin!(self.say_goodbye()).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// Whether a packet ends the columns or the rows.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < MAX_END
}

fn row(packet: &[u8], columns: u64) -> Option<(String, String)> {
    let mut fields = Fields::new(packet);
    let mut text = || {
        Some(match fields.value()? {
            Value::Null => String::new(),
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        })
    };
    let first = text()?;
    let second = if columns > 1 { text()? } else { String::new() };
    Some((first, second))
}
