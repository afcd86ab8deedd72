//! Frames: a length of four big-endian bytes, and that many bytes.

use alloc::vec::Vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::{MAX_FRAME, WireError};

/// Takes bytes as they arrive, and gives them back frame by frame.
///
/// What has arrived stays undecoded until somebody asks for it, so a reader that is not asked
/// grows by exactly what it is given: who stops asking stops receiving. When all was asked for it
/// holds no memory. A frame that it hands out is a slice of what has arrived, or a copy where it is
/// a small part of that ([`PINNED_MAX`]).
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    /// The largest capacity since the buffer was made: what a slice of it may keep alive.
    allocated: usize,
}

impl FrameReader {
    /// A reader that has received nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what has arrived, whatever its boundaries.
    pub fn receive(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
        self.allocated = self.allocated.max(self.buffer.capacity());
    }

    /// Removes the next frame; `None` when it has not arrived whole.
    ///
    /// A frame of more than `max` bytes is an error as soon as its length is there. The same error
    /// is returned again on every later call.
    pub fn next_frame(&mut self, max: usize) -> Result<Option<Bytes>, WireError> {
        let frame = self.next_with(max, |_| Ok(((), 0)))?;
        Ok(frame.map(|((), frame)| frame))
    }

    /// Removes the next frame after `read` has looked at it; what `read` returns is kept beside the
    /// bytes that follow those it says to have used. A frame that is refused stays.
    ///
    /// So a message without a tail is read where it lies, and costs no allocation.
    pub(crate) fn next_with<T>(
        &mut self,
        max: usize,
        read: impl FnOnce(&[u8]) -> Result<(T, usize), WireError>,
    ) -> Result<Option<(T, Bytes)>, WireError> {
        let Some(frame) = self.peek(max)? else {
            self.settle();
            return Ok(None);
        };
        let length = frame.len();
        let (value, used) = read(frame)?;
        self.buffer.advance(LENGTH + used);
        Ok(Some((value, self.take(length - used))))
    }

    /// Removes the next frame, which `read` uses up whole.
    pub(crate) fn next_whole<T>(
        &mut self,
        max: usize,
        read: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let next = self.next_with(max, |frame| Ok((read(frame)?, frame.len())))?;
        Ok(next.map(|(value, _)| value))
    }

    /// The next frame, if it has arrived whole.
    pub(crate) fn peek(&self, max: usize) -> Result<Option<&[u8]>, WireError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let found = u32::from_be_bytes(*length) as usize;
        if found > max {
            return Err(WireError::FrameTooLong { found, max });
        }
        Ok(rest.get(..found))
    }

    /// Bytes of memory that the reader takes for what has arrived and was not asked for yet.
    pub fn memory(&self) -> usize {
        self.allocated
    }

    /// Removes the first `length` bytes of the buffer: a slice of it if they are much of it, a copy
    /// if they are little, for a small object must not keep a large buffer alive.
    fn take(&mut self, length: usize) -> Bytes {
        if length >= self.allocated / PINNED_MAX {
            return self.buffer.split_to(length).freeze();
        }
        let copy = Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default());
        self.buffer.advance(length);
        copy
    }

    /// Gives back the memory that what is left does not need.
    fn settle(&mut self) {
        if self.buffer.len() < self.allocated / PINNED_MAX {
            self.buffer = BytesMut::from(self.buffer.as_ref());
            self.allocated = self.buffer.capacity();
        }
    }
}

/// Appends one frame to `out`.
///
/// For what is neither a native message nor a handshake, such as the answer to `ruok`.
pub fn write_frame(payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    framed(out, payload.len(), |_| Ok(()))?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a frame's length and what `fill` appends; `follows` bytes are counted in and left to the
/// caller. When `fill` fails, or the frame is too long, `out` is as it was.
pub(crate) fn framed(
    out: &mut Vec<u8>,
    follows: usize,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    let written = fill(out).and_then(|()| write_length(out, start, follows));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Writes the length of the frame that began at `start` into its first bytes.
fn write_length(out: &mut [u8], start: usize, follows: usize) -> Result<(), WireError> {
    let found = (out.len() - start - LENGTH).saturating_add(follows);
    if found > MAX_FRAME {
        return Err(WireError::FrameTooLong { found, max: MAX_FRAME });
    }
    let length = u32::try_from(found).expect("the longest frame's length has 27 bits");
    let place = out.get_mut(start..).and_then(|frame| frame.first_chunk_mut());
    *place.expect("the frame began with room for its length") = length.to_be_bytes();
    Ok(())
}

/// What a frame may keep alive: if the buffer that it arrived in is more than so many times as
/// large, it is copied out of it.
pub const PINNED_MAX: usize = 4;
/// Bytes of a frame's length.
const LENGTH: usize = 4;
