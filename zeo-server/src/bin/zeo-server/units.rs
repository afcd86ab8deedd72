//! Sizes, times and modes as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number of bytes, such as `64MiB`. The unit is needed: so nobody has to know whether a bare
/// number is one of bytes or of something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A length of time, such as `10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

/// A number of bytes, or `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quota(pub(crate) Option<u64>);

/// The permission bits of a file, in octal, such as `0600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

/// What it is that a text should have been.
trait Unit: FromStr<Err = Malformed> + fmt::Display {
    const EXPECTED: &'static str;
}

/// A text that is not what was expected.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub(crate) struct Malformed(&'static str);

impl Unit for Size {
    const EXPECTED: &'static str = "a size with its unit, such as \"64MiB\" (B, KiB, MiB, GiB)";
}

impl Unit for Time {
    const EXPECTED: &'static str = "a time with its unit, such as \"10s\" (ms, s, min)";
}

impl Unit for Mode {
    const EXPECTED: &'static str = "a file's mode in octal, such as \"0600\"";
}

impl Unit for Quota {
    const EXPECTED: &'static str = "\"none\", or a size with its unit, such as \"10GiB\"";
}

impl FromStr for Size {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        scaled(text, &SIZES).map(Self).ok_or(Malformed(Self::EXPECTED))
    }
}

impl FromStr for Time {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let millis = scaled(text, &TIMES).ok_or(Malformed(Self::EXPECTED))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl FromStr for Mode {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mode = u32::from_str_radix(text, 8).ok().filter(|&mode| mode <= 0o777);
        mode.map(Self).ok_or(Malformed(Self::EXPECTED))
    }
}

impl FromStr for Quota {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text == NONE {
            return Ok(Self(None));
        }
        let size: Size = text.parse().map_err(|_| Malformed(Self::EXPECTED))?;
        Ok(Self(Some(size.0)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZES)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIMES)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(NONE),
            Some(bytes) => Size(bytes).fmt(f),
        }
    }
}

/// A whole number and one of these units; `None` where it is something else, or too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits)?.trim_start();
    let (_, scale) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}

/// The same with the largest unit that it is a multiple of.
fn write_scaled(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |&&(_, scale): &&(_, u64)| number != 0 && number.is_multiple_of(scale);
    let (name, scale) = units.iter().rev().find(fits).or_else(|| units.first()).unwrap_or(&("", 1));
    write!(f, "{}{name}", number / scale)
}

/// Reads a text in a file as on the command line.
struct Text<U>(std::marker::PhantomData<U>);

impl<U: Unit> Visitor<'_> for Text<U> {
    type Value = U;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(U::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<U, E> {
        text.parse().map_err(|error| E::custom(format!("{text:?}: {error}")))
    }
}

macro_rules! as_text {
    ($($unit:ty),*) => {$(
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(std::marker::PhantomData))
            }
        }

        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

as_text!(Size, Time, Mode, Quota);

/// How a quota that there is not is written.
const NONE: &str = "none";

/// In bytes, ascending.
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// In milliseconds, ascending.
const TIMES: [(&str, u64); 3] = [("ms", 1), ("s", 1_000), ("min", 60_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_survive_their_text_form() {
        for text in ["0B", "1B", "1023B", "1KiB", "64MiB", "1GiB", "1025MiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["1ms", "4s", "90s", "2min"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        for text in ["none", "10GiB"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
        assert_eq!("0660".parse::<Mode>().unwrap().to_string(), "0660");
    }

    #[test]
    fn units_may_be_written_loosely() {
        assert_eq!("2 mib".parse::<Size>().unwrap(), Size(2 << 20));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for text in ["64", "64MB", "", "MiB", "-1MiB", "1.5GiB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
        for text in ["10", "1h", "s"] {
            assert!(text.parse::<Time>().is_err(), "{text:?}");
        }
        for text in ["rw", "1777", "8", ""] {
            assert!(text.parse::<Mode>().is_err(), "{text:?}");
        }
    }
}
