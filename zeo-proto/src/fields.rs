//! Tagged fields, of which handshake frames consist after their fixed beginning.
//!
//! A field is a tag (one byte), a length (two bytes, big-endian) and a value. Fields may come in
//! any order. One whose tag is not known is skipped, so that later versions can add some; one that
//! is known comes at most once.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::WireError;

/// The values of the fields with tags 1 to `N`.
pub(crate) struct Fields<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> Fields<'a, N> {
    /// Splits what follows a frame's fixed beginning.
    pub(crate) fn read(mut rest: &'a [u8]) -> Result<Self, WireError> {
        let mut values = [None; N];
        while let Some((&tag, after)) = rest.split_first() {
            let (length, after) = after.split_first_chunk().ok_or(CUT)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (value, after) = after.split_at_checked(length).ok_or(CUT)?;
            if let Some(place) = usize::from(tag).checked_sub(1).and_then(|at| values.get_mut(at))
                && place.replace(value).is_some()
            {
                return Err(WireError::FieldTwice(tag));
            }
            rest = after;
        }
        Ok(Self(values))
    }

    /// A field of exactly `L` bytes.
    pub(crate) fn fixed<const L: usize>(&self, tag: u8) -> Result<Option<[u8; L]>, WireError> {
        let Some(value) = self.value(tag) else { return Ok(None) };
        let wrong = WireError::FieldLength { tag, found: value.len(), min: L, max: L };
        value.try_into().map(Some).map_err(|_| wrong)
    }

    /// A field of exactly `L` bytes that must be there.
    pub(crate) fn required<const L: usize>(&self, tag: u8) -> Result<[u8; L], WireError> {
        self.fixed(tag)?.ok_or(WireError::FieldMissing(tag))
    }

    /// A text of `min` to `max` bytes.
    pub(crate) fn text(
        &self,
        tag: u8,
        min: usize,
        max: usize,
    ) -> Result<Option<String>, WireError> {
        let Some(value) = self.value(tag) else { return Ok(None) };
        let found = value.len();
        if !(min..=max).contains(&found) {
            return Err(WireError::FieldLength { tag, found, min, max });
        }
        let text = core::str::from_utf8(value).map_err(|_| WireError::FieldNotText(tag))?;
        Ok(Some(text.to_owned()))
    }

    fn value(&self, tag: u8) -> Option<&'a [u8]> {
        usize::from(tag).checked_sub(1).and_then(|at| self.0.get(at).copied().flatten())
    }
}

/// Appends a field.
pub(crate) fn write_field(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).expect("a field is shorter than the frame it is in");
    out.push(tag);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

const CUT: WireError = WireError::HandshakeCut("a field");
