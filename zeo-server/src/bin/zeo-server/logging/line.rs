//! One line of the log: whatever is in it, it stays one line, and only shows.

use std::fmt::Write;

/// Makes what was formatted one line of printable text.
///
/// Most of it is printable already: the formatter quotes fields. Yet what a peer has chosen may
/// come through in an error's text, and must neither begin a line of its own nor command a
/// terminal.
pub(super) fn one_line(formatted: &[u8]) -> Box<[u8]> {
    let text = String::from_utf8_lossy(formatted);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if line.len() >= MAX_LINE {
            line.push_str("...");
            break;
        }
        push(&mut line, c);
    }
    line.push('\n');
    line.into_bytes().into_boxed_slice()
}

/// Makes a text, which may be JSON, one that only shows.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut shown, c));
    shown
}

fn push(line: &mut String, c: char) {
    if is_unsafe(c) {
        // In JSON as well as for people.
        write!(line, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
    } else {
        line.push(c);
    }
}

/// Controls, and what turns the direction of writing or breaks lines.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes after which a line is cut: far more than any of ours needs.
const MAX_LINE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_only_shown() {
        let line = one_line("a\nb\r\x1b[31m\u{9b}1m\u{202e}c\td\n".as_bytes());
        let text = "a\\u000ab\\u000d\\u001b[31m\\u009b1m\\u202ec\\u0009d\n";
        assert_eq!(String::from_utf8(line.into()).unwrap(), text);
    }

    #[test]
    fn an_ordinary_line_stays_as_it_is() {
        assert_eq!(&*one_line("größer \"a\"\n".as_bytes()), "größer \"a\"\n".as_bytes());
    }

    #[test]
    fn a_line_has_a_bound() {
        let line = one_line(&vec![b'x'; 100_000]);
        assert!(line.len() < MAX_LINE + 10 && line.ends_with(b"...\n"), "{}", line.len());
    }
}
