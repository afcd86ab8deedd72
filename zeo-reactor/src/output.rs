//! Bytes waiting to be written: small ones gathered in a buffer, large ones queued as they are.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf, Bytes, BytesMut};

/// An empty output owns no more than a small buffer, so an idle connection costs little.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Comes before the tail.
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Output {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn copy(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data);
        self.len += data.len();
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if data.len() < UNCOPIED_MIN {
            return self.copy(&data);
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.len += data.len();
        self.queue.push_back(data);
    }

    /// Takes everything, in order.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let Self { queue, tail, .. } = std::mem::take(self);
        let mut taken = queue.iter().fold(Vec::new(), |mut all, part| {
            all.extend_from_slice(part);
            all
        });
        taken.extend_from_slice(&tail);
        taken
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Hands pieces to `write` until it takes no more, or has taken `most` bytes. `Ok(false)` when it
    /// would block.
    pub(crate) fn flush(
        &mut self,
        most: usize,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let mut left = most;
        while self.len > 0 && left > 0 {
            match self.write_once(left, &mut write) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    left = left.saturating_sub(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.len == 0 {
            self.shrink();
        }
        Ok(true)
    }

    fn write_once(
        &self,
        most: usize,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.queue.is_empty() {
            return write(&[IoSlice::new(at_most(&self.tail, most))]);
        }
        let pieces = self.queue.iter().map(|piece| &**piece).chain([&*self.tail]);
        let mut left = most;
        let slices: Vec<_> = pieces
            .map(|piece| {
                let piece = at_most(piece, left);
                left -= piece.len();
                IoSlice::new(piece)
            })
            .take_while(|piece| !piece.is_empty())
            .take(SLICES_MAX)
            .collect();
        write(&slices)
    }

    fn advance(&mut self, mut written: usize) {
        self.len = self.len.saturating_sub(written);
        while written > 0 {
            let Some(first) = self.queue.front_mut() else {
                return self.tail.advance(written.min(self.tail.len()));
            };
            let step = written.min(first.len());
            first.advance(step);
            written -= step;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    fn shrink(&mut self) {
        if self.tail.capacity() > TAIL_KEPT {
            self.tail = BytesMut::new();
        }
        if self.queue.capacity() > SLICES_MAX {
            self.queue = VecDeque::new();
        }
    }
}

fn at_most(piece: &[u8], most: usize) -> &[u8] {
    piece.get(..most).unwrap_or(piece)
}

/// Smaller pieces are copied: that costs less than a slice of their own in each write.
const UNCOPIED_MIN: usize = 4 * 1024;
/// Pieces in one write; the systems' own limit is 1,024.
const SLICES_MAX: usize = 64;
/// The largest buffer that an empty output keeps.
const TAIL_KEPT: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_in_order_however_few_bytes_a_write_takes() {
        for step in [1, 2, 7, 4096, usize::MAX] {
            let (mut output, expected) = filled();
            let mut written = Vec::new();
            let done = output.flush(usize::MAX, |slices| Ok(take(slices, step, &mut written)));
            assert!(done.unwrap());
            assert_eq!((output.len(), written.len()), (0, expected.len()));
            assert!(written == expected, "step {step}");
        }
    }

    #[test]
    fn what_is_too_much_at_once_leaves_later() {
        for most in [1, 6, 4_500, 1 << 20] {
            let (mut output, expected) = filled();
            let mut written = Vec::new();
            while output.len() > 0 {
                let before = written.len();
                assert!(
                    output.flush(most, |slices| Ok(take(slices, 4_096, &mut written))).unwrap()
                );
                assert!((1..=most).contains(&(written.len() - before)));
            }
            assert!(written == expected, "at most {most}");
        }
    }

    #[test]
    fn what_would_block_stays() {
        let (mut output, expected) = filled();
        let mut written = Vec::new();
        let mut room = 5000;
        let done = output.flush(usize::MAX, |slices| {
            let taken = take(slices, room, &mut written);
            room -= taken;
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        });
        assert!(!done.unwrap());
        assert_eq!((written.len(), output.len()), (5000, expected.len() - 5000));
    }

    #[test]
    fn an_emptied_output_keeps_no_large_buffer() {
        let mut output = Output::default();
        output.copy(&vec![0; 1 << 20]);
        output
            .flush(usize::MAX, |slices| Ok(slices.iter().map(|slice| slice.len()).sum()))
            .unwrap();
        assert!(output.tail.capacity() <= TAIL_KEPT);
    }

    fn filled() -> (Output, Vec<u8>) {
        let mut output = Output::default();
        output.copy(b"head");
        output.push(Bytes::from(vec![1; 5000]));
        output.push(Bytes::from_static(b"small"));
        output.copy(b"tail");
        let expected = [b"head".as_slice(), &[1; 5000], b"small", b"tail"].concat();
        (output, expected)
    }

    fn take(slices: &[IoSlice<'_>], limit: usize, into: &mut Vec<u8>) -> usize {
        let before = into.len();
        for slice in slices {
            let room = limit.saturating_sub(into.len() - before);
            into.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        into.len() - before
    }
}
