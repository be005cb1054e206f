//! What a header of version 2 says behind the addresses: any number of values, each with its type and its length.

use crc::{CRC_32_ISCSI, Crc};

use crate::config::ProxyV2Option;

/// The protocol that was negotiated over the client's TLS.
const ALPN: u8 = 0x01;
/// The host name that the client has asked for.
pub(super) const AUTHORITY: u8 = 0x02;
/// The checksum of the header.
pub(super) const CRC32C: u8 = 0x03;
/// Names the connection.
pub(in crate::worker) const UNIQUE_ID: u8 = 0x05;
/// The client's TLS, with values of its own.
const SSL: u8 = 0x20;
/// Those of applications, such as the ids that clouds give to endpoints.
const CUSTOM: std::ops::RangeInclusive<u8> = 0xe0..=0xef;

/// The longest unique id.
const MAX_UNIQUE_ID: usize = 128;
/// The longest host name.
const MAX_AUTHORITY: usize = 255;
/// What the client's TLS begins with: flags, and whether its certificate was verified.
const SSL_FIXED: usize = 5;

/// In front of a value: its type and its length.
pub(super) const TLV_FIXED: usize = 3;

/// The checksum: that of iSCSI, which is called CRC32c.
static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A value with its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) struct Tlv<'b> {
    pub kind: u8,
    pub value: &'b [u8],
}

/// What a proxy has sent behind the addresses, and was found to be whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::worker) struct Tlvs(Box<[u8]>);

impl Tlvs {
    /// Keeps what [`parse`](super::parse) has found.
    pub(in crate::worker) fn new(bytes: &[u8]) -> Tlvs {
        Tlvs(bytes.into())
    }

    fn iter(&self) -> impl Iterator<Item = Tlv<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (tlv, behind) = split(rest)?;
            rest = behind;
            Some(tlv)
        })
    }

    /// The name that a proxy has given to the connection.
    pub(in crate::worker) fn unique_id(&self) -> Option<&[u8]> {
        self.iter().find(|tlv| tlv.kind == UNIQUE_ID).map(|tlv| tlv.value)
    }

    /// Those that are to be passed on, but for the unique id.
    pub(in crate::worker) fn passed_on(&self, options: &[ProxyV2Option]) -> impl Iterator<Item = Tlv<'_>> {
        self.iter().filter(|tlv| option_for(tlv.kind).is_some_and(|option| options.contains(&option)))
    }
}

/// The option that has values of this type passed on.
fn option_for(kind: u8) -> Option<ProxyV2Option> {
    match kind {
        ALPN => Some(ProxyV2Option::Alpn),
        AUTHORITY => Some(ProxyV2Option::Authority),
        SSL => Some(ProxyV2Option::Ssl),
        _ if CUSTOM.contains(&kind) => Some(ProxyV2Option::Custom),
        _ => None,
    }
}

/// The first value, and what follows it. `None` if it is cut.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<TLV_FIXED>()?;
    let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, behind))
}

/// Looks whether what stands in a whole header from this byte on is what it should be. What is not known is skipped.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(header: &[u8], start: usize) -> Result<(), &'static str> {
    let mut has_checksum = false;
    let mut rest = &header[start..];
    while !rest.is_empty() {
        let Some((Tlv { kind, value }, behind)) = split(rest) else { return Err(CUT) };
        match kind {
            CRC32C if has_checksum => return Err("malformed: with two checksums"),
            CRC32C => {
                let expected: [u8; 4] = value.try_into().map_err(|_| "malformed: with a checksum of a wrong length")?;
                let end = header.len() - behind.len();
                if checksum(header, end - expected.len()) != u32::from_be_bytes(expected) {
                    return Err("malformed: its checksum is wrong");
                }
                has_checksum = true;
            }
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => {
                return Err("malformed: with a unique id of more than 128 bytes");
            }
            AUTHORITY if value.len() > MAX_AUTHORITY => {
                return Err("malformed: with a host name of more than 255 bytes");
            }
            SSL => check_ssl(value)?,
            _ => {}
        }
        rest = behind;
    }
    Ok(())
}

const CUT: &str = "malformed: cut within what follows the addresses";

fn check_ssl(value: &[u8]) -> Result<(), &'static str> {
    let mut rest = value.get(SSL_FIXED..).ok_or(CUT)?;
    while !rest.is_empty() {
        (_, rest) = split(rest).ok_or(CUT)?;
    }
    Ok(())
}

/// The checksum of a header in which the checksum itself, which stands at this byte, counts as zeros.
pub(super) fn checksum(header: &[u8], at: usize) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(&header[..at]);
    digest.update(&[0; 4]);
    digest.update(&header[at + 4..]);
    digest.finalize()
}
