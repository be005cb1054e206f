use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::ProxyVersion;
use crate::worker::flow::Progress;
use crate::worker::pipe::PipeBudget;
use crate::worker::proxy_protocol::{Extras, encode};
use crate::worker::source::Sign;

/// Bytes that are received at a time.
const SCRATCH: usize = 256;

/// A socket that returns pieces in turn, blocks after each of them, and takes a limited number of bytes.
#[derive(Default)]
struct Scripted {
    pieces: RefCell<VecDeque<Vec<u8>>>,
    /// The next call finds nothing.
    blocks: Cell<bool>,
    ends: bool,
    room: Cell<usize>,
    taken: RefCell<Vec<u8>>,
}

impl Scripted {
    fn saying(pieces: &[Vec<u8>], ends: bool) -> Scripted {
        Scripted { pieces: RefCell::new(pieces.iter().cloned().collect()), ends, ..Scripted::default() }
    }

    fn with_room(room: usize) -> Scripted {
        Scripted { room: Cell::new(room), ..Scripted::default() }
    }
}

impl Socket for Scripted {
    type Pipe = ();

    fn open_pipe() -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.blocks.replace(false) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(piece) = self.pieces.borrow_mut().pop_front() else {
            return if self.ends { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        };
        buffer[..piece.len()].copy_from_slice(&piece);
        self.blocks.set(true);
        Ok(piece.len())
    }

    fn send(&self, bytes: &[u8], _more: bool) -> io::Result<usize> {
        let count = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - count);
        self.taken.borrow_mut().extend(&bytes[..count]);
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn splice_into(&self, (): &(), _most: usize) -> io::Result<usize> {
        unreachable!("there is no pipe")
    }

    fn splice_out_of(&self, (): &(), _most: usize) -> io::Result<usize> {
        unreachable!("there is no pipe")
    }
}

fn tools() -> Tools<Scripted> {
    Tools::with_scratch(SCRATCH, PipeBudget::new(0), Splicing::Never)
}

/// A packet of MySQL's with this payload.
fn packet(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes()[..3], &[0], payload].concat()
}

/// Reads on at each event until something becomes of the first packet.
fn first_packet(flow: &mut Flow<Scripted>, source: &Scripted, sink: &Scripted) -> FirstPacket {
    for _ in 0..1000 {
        flow.hear(if source.pieces.borrow().is_empty() { Sign::Ending } else { Sign::Readable });
        match flow.pass_first_packet(source, sink, &mut tools(), &mut Traffic::default()).expect("nothing breaks") {
            FirstPacket::Awaited => {}
            decided => return decided,
        }
    }
    panic!("nothing becomes of the first packet");
}

/// Cuts bytes into pieces of these lengths, over and over again.
fn cut(mut rest: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for length in lengths.iter().cycle() {
        let (part, others) = rest.split_at((*length).min(rest.len()));
        if part.is_empty() {
            break;
        }
        parts.push(part.to_vec());
        rest = others;
    }
    parts
}

/// Reads on at each event until something becomes of the PROXY header.
fn proxy_header(flow: &mut Flow<Scripted>, source: &Scripted, traffic: &mut Traffic) -> ProxyHeader {
    for _ in 0..1000 {
        flow.hear(if source.pieces.borrow().is_empty() { Sign::Ending } else { Sign::Readable });
        match flow.receive_proxy_header(source, &mut tools(), traffic).expect("nothing breaks") {
            ProxyHeader::Awaited => {}
            decided => return decided,
        }
    }
    panic!("nothing becomes of the header");
}

proptest! {
    #[test]
    fn a_proxy_header_in_any_pieces_is_taken_off_and_nothing_of_what_follows(
        version in prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)], from: SocketAddr, to: SocketAddr,
        lengths in vec(1..=SCRATCH / 16, 1..50), payload in vec(any::<u8>(), 0..50), missing in 0..8_usize
    ) {
        let addresses = Addresses { source: from, destination: to }.canonical();
        let header = encode(version, addresses, &Extras::default());
        let whole = [&header[..], &payload].concat();
        let (mut flow, mut traffic) = (Flow::new(true), Traffic::default());
        if missing > 0 {
            let source = Scripted::saying(&cut(&header[..header.len() - missing], &lengths), true);
            prop_assert_eq!(proxy_header(&mut flow, &source, &mut traffic), ProxyHeader::Cut);
            return Ok(());
        }
        let source = Scripted::saying(&cut(&whole, &lengths), true);
        let behind = match proxy_header(&mut flow, &source, &mut traffic) {
            ProxyHeader::Taken { addresses: Some(said), behind, .. } if said == addresses => behind,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(behind, traffic.received - header.len());
        // What the next proxy is told goes in front.
        flow.put_first(b"next");
        let sink = Scripted::with_room(usize::MAX);
        for _ in 0..1000 {
            flow.hear(if source.pieces.borrow().is_empty() { Sign::Ending } else { Sign::Readable });
            flow.pump(&source, &sink, &mut tools(), &mut Traffic::default()).expect("nothing breaks");
        }
        prop_assert_eq!(&*sink.taken.borrow(), &[b"next", &payload[..]].concat());
    }

    #[test]
    fn a_first_packet_in_any_pieces_is_passed_on_whole_or_not_at_all(
        payload in vec(any::<u8>(), 1..40), is_error in any::<bool>(), pieces in vec(1..50_usize, 1..50), missing in 0..8_usize,
        room in 0..60_usize
    ) {
        let kind = if is_error { 0xff } else { 10 };
        let whole = packet(&[&[kind][..], &payload].concat());
        let said = &whole[..whole.len() - missing.min(whole.len())];
        let (source, sink) = (Scripted::saying(&cut(said, &pieces), true), Scripted::with_room(room));
        let mut flow = Flow::new(true);
        let first = first_packet(&mut flow, &source, &sink);
        if missing > 0 {
            prop_assert_eq!(first, FirstPacket::Missing);
            prop_assert!(sink.taken.borrow().is_empty());
        } else if is_error {
            prop_assert_eq!(first, FirstPacket::Error(whole.into()));
            prop_assert!(sink.taken.borrow().is_empty());
        } else {
            prop_assert_eq!(first, FirstPacket::PassedOn);
            prop_assert_eq!(flow.holds_anything(), room < whole.len());
            sink.room.set(usize::MAX);
            flow.sink_is_writable();
            prop_assert!(flow.flush(&sink, &mut Traffic::default()).expect("room"));
            prop_assert_eq!(&*sink.taken.borrow(), &whole);
        }
    }
}

#[test]
fn what_one_destination_has_said_is_not_taken_for_the_beginning_of_what_the_next_one_says() {
    let (mut flow, sink) = (Flow::new(true), Scripted::with_room(1000));
    let first = Scripted::saying(&[vec![5, 0, 0]], false);
    flow.hear(Sign::Uncertain);
    let awaited = flow.pass_first_packet(&first, &sink, &mut tools(), &mut Traffic::default());
    assert_eq!(awaited.expect("nothing breaks"), FirstPacket::Awaited);
    assert!(!flow.is_silent() && !flow.may_have_ended());
    flow.hear(Sign::Ending);
    assert!(!flow.is_silent() && flow.may_have_ended());
    flow.forget_source();
    assert!(flow.is_silent() && !flow.may_have_ended());
    let handshake = packet(b"\x0aserver");
    let second = Scripted::saying(std::slice::from_ref(&handshake), false);
    assert_eq!(first_packet(&mut flow, &second, &sink), FirstPacket::PassedOn);
    assert_eq!(*sink.taken.borrow(), handshake);
}

/// The end that was reported with it is behind what has filled the buffer.
#[test]
fn what_follows_a_first_packet_is_read_to_its_end() {
    let mut first = packet(b"\x0aserver");
    first.resize(SCRATCH, b'x');
    let source = Scripted::saying(&[first.clone(), b"rest".to_vec()], true);
    let (mut flow, sink) = (Flow::new(true), Scripted::with_room(1000));
    flow.hear(Sign::Ending);
    let passed = flow.pass_first_packet(&source, &sink, &mut tools(), &mut Traffic::default());
    assert_eq!(passed.expect("nothing breaks"), FirstPacket::PassedOn);
    source.blocks.set(false);
    let progress = flow.pump(&source, &sink, &mut tools(), &mut Traffic::default());
    assert_eq!(progress.expect("nothing breaks"), Progress::Ended);
    assert_eq!(*sink.taken.borrow(), [&first[..], b"rest"].concat());
}

#[test]
fn what_a_source_says_is_discarded_up_to_its_end_but_no_more_than_asked_for() {
    let pieces: Vec<_> = (1..=10).map(|number| vec![number; 10]).collect();
    let (source, mut flow) = (Scripted::saying(&pieces, true), Flow::<Scripted>::new(true));
    let mut discard = |most| {
        let mut traffic = Traffic::default();
        flow.hear(Sign::Uncertain);
        let ended = flow.discard(&source, most, &mut tools(), &mut traffic).expect("nothing breaks");
        (ended, traffic.received)
    };
    // It blocks after each piece, but for the end.
    assert_eq!(discard(5), (false, 10));
    source.blocks.set(false);
    assert_eq!(discard(100), (false, 10));
    let ends = (0..100).map(|_| discard(100)).find(|(ended, _)| *ended);
    assert_eq!(ends, Some((true, 0)));
}
