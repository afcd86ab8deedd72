//! The names of things: objects, transactions, databases.
//!
//! An oid and a tid are eight raw big-endian bytes on the wire and in the journal, so that their
//! order as bytes is their order as numbers.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An object's name: 8 bytes, never used twice.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid([u8; 8]);

impl Oid {
    /// The root object, by ZODB's convention.
    pub const ROOT: Self = Self([0; 8]);
    /// The largest name there can be; never handed out.
    pub const MAX: Self = Self([0xff; 8]);

    /// The object of that number.
    pub const fn new(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The name as it is written on the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight big-endian bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The name as a number.
    pub const fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// A transaction's name: 8 bytes, a ZODB time stamp that grows strictly and orders all history.
///
/// The layout is that of `persistent.TimeStamp`: the upper four bytes count minutes
/// (`(((year - 1900) * 12 + month - 1) * 31 + day - 1) * 24 + hour) * 60 + minute`), the lower
/// four are the seconds within that minute in units of 60 / 2³² s.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid([u8; 8]);

impl Tid {
    /// Before all history: the last tid of an empty storage, and the serial of an object that its
    /// writer creates.
    pub const ZERO: Self = Self([0; 8]);
    /// After all history: as `before`, "the newest there is".
    pub const MAX: Self = Self([0xff; 8]);

    /// The tid of that number.
    pub const fn new(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The tid as it is written on the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The eight big-endian bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The tid as a number.
    pub const fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The smallest tid that is larger; [`Tid::MAX`] stays itself.
    ///
    /// "What is current as of `tid`" is read with `before = tid.next()`.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.number().saturating_add(1))
    }

    /// The largest tid that is smaller; [`Tid::ZERO`] stays itself.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self::new(self.number().saturating_sub(1))
    }

    /// The time stamp of a moment, given in microseconds since 1970-01-01 00:00 UTC.
    ///
    /// Microseconds beyond what the format holds (the year 10069) saturate.
    pub fn from_unix_micros(micros: u64) -> Self {
        const MICROS_PER_MINUTE: u64 = 60_000_000;
        let minutes = micros / MICROS_PER_MINUTE;
        let (year, month, day) = civil_from_days(minutes / (24 * 60));
        let minute_of_day = minutes % (24 * 60);
        let stamp = (((year.saturating_sub(1900)) * 12 + month - 1) * 31 + day - 1) * 24 * 60
            + minute_of_day;
        let Ok(stamp) = u32::try_from(stamp) else { return Self::MAX.previous() };
        let fraction = ((micros % MICROS_PER_MINUTE) << 32) / MICROS_PER_MINUTE;
        Self::new((u64::from(stamp) << 32) | fraction)
    }

    /// The tid to give to a transaction at that moment when `self` is the last one given.
    #[must_use]
    pub fn next_at(self, unix_micros: u64) -> Self {
        Self::from_unix_micros(unix_micros).max(self.next())
    }

    /// The moment that the time stamp names, in microseconds since 1970; `None` before 1970 or
    /// for bits that name no calendar date.
    pub fn unix_micros(self) -> Option<u64> {
        let stamp = self.number() >> 32;
        let (minute_of_day, days) = (stamp % (24 * 60), stamp / (24 * 60));
        let (day, months) = (days % 31 + 1, days / 31);
        let (month, year) = (months % 12 + 1, months / 12 + 1900);
        let days = days_from_civil(year, month, day)?;
        let fraction = ((self.number() & 0xffff_ffff) * 60_000_000) >> 32;
        Some((days * 24 * 60 + minute_of_day) * 60_000_000 + fraction)
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// The arithmetic is that of Howard Hinnant's "chrono-compatible low-level date algorithms".
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`]; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The name that a client gives its transaction: 16 random bytes, stored with the commit, so that
/// the question "was it committed?" always has an answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxnId([u8; 16]);

impl TxnId {
    /// The name with these bytes; the caller sees to their randomness.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// Which database this is: a UUID made with the storage, and an epoch that grows when its history
/// is rewritten (a backup restored over it).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// A random UUID, made when the storage was created.
    pub uuid: [u8; 16],
    /// How often the history was rewritten; the first is 1.
    pub epoch: u64,
}

macro_rules! hexadecimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// Serialised as text where people read it. Elsewhere as the number whose little-endian bytes are
/// the name's: on the wire these are the raw bytes, at an eighth of the cost of eight elements.
macro_rules! serialised {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_u64(u64::from_le_bytes(self.0))
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    u64::deserialize(deserializer).map(|number| Self(number.to_le_bytes()))
                }
            }
        }
    };
}

serialised!(Oid);
serialised!(Tid);

hexadecimal!(Oid);
hexadecimal!(Tid);
hexadecimal!(TxnId);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.uuid.iter().enumerate() {
            let dash = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        write!(f, "/{}", self.epoch)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// The text is not the hexadecimal number that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of 1 to 16 hexadecimal digits")]
pub struct ParseIdError;

impl FromStr for Oid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        u64::from_str_radix(text, 16).map(Self::new).map_err(|_| ParseIdError)
    }
}

impl FromStr for Tid {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        u64::from_str_radix(text, 16).map(Self::new).map_err(|_| ParseIdError)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use serde::de::IntoDeserializer;
    use serde::de::value::{self, StrDeserializer};

    use super::*;

    #[test]
    fn a_tid_is_the_time_stamp_that_python_makes() {
        // persistent.timestamp.TimeStamp(2026, 11, 21, 0, 16, 36.5).raw()
        let tid = Tid::from_unix_micros(1_795_220_196_500_000);
        assert_eq!(format!("{tid}"), "040d27509bbbbbbb");
        assert_eq!(tid.unix_micros(), Some(1_795_220_196_499_999));
    }

    #[test]
    fn a_tid_grows_when_the_clock_does_not() {
        let last = Tid::from_unix_micros(1_795_220_196_500_000);
        assert_eq!(last.next_at(0), last.next());
        assert!(last.next_at(1_795_220_196_600_000) > last.next());
    }

    #[test]
    fn the_calendar_is_its_own_inverse() {
        for days in (0..80_000).step_by(7) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }

    #[test]
    fn names_are_text_where_people_read_them() {
        struct Shown(Oid);
        impl fmt::Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.serialize(f)
            }
        }
        assert_eq!(format!("{}", Shown(Oid::new(255))), "00000000000000ff");
        let text: StrDeserializer<'_, value::Error> = "00000000000000ff".into_deserializer();
        assert_eq!(Oid::deserialize(text), Ok(Oid::new(255)));
    }

    #[test]
    fn names_print_as_hexadecimal() {
        assert_eq!(format!("{}", Oid::new(255)), "00000000000000ff");
        assert_eq!("ff".parse(), Ok(Oid::new(255)));
        assert_eq!("fish".parse::<Oid>(), Err(ParseIdError));
    }
}
