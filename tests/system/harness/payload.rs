//! Data of which the receiver knows every byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes that look random but are known: who receives them sees whether one was lost, changed, doubled or moved.
#[derive(Clone)]
pub struct Payload {
    /// The payload is this over and over. Its length shares no factor with any buffer's, so that a piece in the wrong
    /// place never fits.
    block: Vec<u8>,
    length: usize,
}

impl Payload {
    const BLOCK: usize = 1_000_003;

    /// `length` bytes, different ones for different seeds.
    pub fn new(seed: u64, length: usize) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let block = words.flatten().take(length.min(Self::BLOCK)).collect();
        Self { block, length }
    }

    /// All of it, for short ones.
    pub fn to_vec(&self) -> Vec<u8> {
        self.block.iter().copied().cycle().take(self.length).collect()
    }

    /// Sends all of it.
    pub fn send(&self, stream: &TcpStream) -> io::Result<()> {
        self.send_in_pieces(stream, |_| usize::MAX)
    }

    /// Sends all of it, each write being as long as `size` says for the position where it begins.
    pub fn send_in_pieces(&self, mut stream: &TcpStream, size: impl Fn(usize) -> usize) -> io::Result<()> {
        let mut position = 0;
        while position < self.length {
            let piece = self.piece(position, size(position));
            stream.write_all(piece)?;
            position += piece.len();
        }
        Ok(())
    }

    /// Receives as many bytes as there are in it; panics at the first that differs.
    pub fn receive(&self, stream: &TcpStream) {
        self.try_receive(stream).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Receives all of it, and then the end of the stream.
    pub fn receive_to_end(&self, stream: &TcpStream) {
        self.try_receive_to_end(stream).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Receives as many bytes as there are in it. An error is `InvalidData` for bytes that differ and `UnexpectedEof` for
    /// an end before the last one.
    pub fn try_receive(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        let mut position = 0;
        while position < self.length {
            let expected = self.piece(position, buffer.len());
            let at = |error: io::Error| {
                io::Error::new(error.kind(), format!("after {position} of {} bytes: {error}", self.length))
            };
            let count = match stream.read(&mut buffer[..expected.len()]) {
                // A read with a timeout is not gone on with by itself after a signal of another test's.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.map_err(at)?,
            };
            if count == 0 {
                return Err(at(ErrorKind::UnexpectedEof.into()));
            }
            if buffer[..count] != expected[..count] {
                let text = format!("wrong data between {position} and {}", position + count);
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            position += count;
        }
        Ok(())
    }

    /// [`Payload::try_receive`], and then the end of the stream; `InvalidData` if there is more.
    pub fn try_receive_to_end(&self, mut stream: &TcpStream) -> io::Result<()> {
        self.try_receive(stream)?;
        match stream.read(&mut [0])? {
            0 => Ok(()),
            _ => {
                let text = format!("the stream goes on after its {} bytes", self.length);
                Err(io::Error::new(ErrorKind::InvalidData, text))
            }
        }
    }

    fn piece(&self, position: usize, longest: usize) -> &[u8] {
        let start = position % self.block.len();
        let length = longest.min(self.block.len() - start).min(self.length - position);
        &self.block[start..start + length]
    }
}
