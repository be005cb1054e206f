//! Takes a packet apart, field by field.

/// What is left of a packet. Each method takes one field from its front, or returns `None` if the packet is too short.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

/// One column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    Text(&'a [u8]),
}

impl<'a> Fields<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Fields<'a> {
        Fields(packet)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// An integer of up to eight bytes, the lowest first.
    fn integer(&mut self, size: usize) -> Option<u64> {
        Some(self.bytes(size)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.integer(2)?).ok()
    }

    /// Bytes up to a NUL, which is taken too.
    pub(super) fn until_nul(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let taken = self.bytes(end)?;
        self.bytes(1)?;
        Some(taken)
    }

    /// Bytes up to a NUL, or to the end of the packet.
    pub(super) fn until_nul_or_end(&mut self) -> &'a [u8] {
        self.until_nul().unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    /// An integer whose first byte says how long it is.
    pub(super) fn length_encoded(&mut self) -> Option<u64> {
        match self.u8()? {
            0xfc => self.integer(2),
            0xfd => self.integer(3),
            0xfe => self.integer(8),
            0xfb | 0xff => None,
            small => Some(u64::from(small)),
        }
    }

    /// A column's value, behind its length.
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        if self.0.first() == Some(&0xfb) {
            self.bytes(1)?;
            return Some(Value::Null);
        }
        let length = usize::try_from(self.length_encoded()?).ok()?;
        self.bytes(length).map(Value::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_read_in_each_size() {
        for (bytes, expected) in [
            (&[0][..], Some(0)),
            (&[0xfa], Some(0xfa)),
            (&[0xfc, 1, 2], Some(0x201)),
            (&[0xfd, 1, 2, 3], Some(0x30201)),
            (&[0xfe, 0, 0, 0, 0, 0, 1, 0, 0], Some(1 << 40)),
            (&[0xfe, 0, 0, 0, 0, 0, 1, 0], None),
            (&[0xfb], None),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(Fields::new(bytes).length_encoded(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_value_that_claims_to_be_longer_than_its_packet_is_refused() {
        assert_eq!(Fields::new(&[2, b'a', b'b', b'c']).value(), Some(Value::Text(b"ab")));
        assert_eq!(Fields::new(&[0xfb]).value(), Some(Value::Null));
        assert_eq!(Fields::new(&[3, b'a']).value(), None);
        assert_eq!(Fields::new(&[0xfe, 255, 255, 255, 255, 255, 255, 255, 255, b'a']).value(), None);
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet in prop::collection::vec(any::<u8>(), 0..40), count: usize) {
            let mut fields = Fields::new(&packet);
            while !fields.is_empty() && fields.value().is_some() {}
            let _ = (fields.u16(), fields.bytes(count), fields.until_nul(), fields.until_nul_or_end());
        }
    }
}
