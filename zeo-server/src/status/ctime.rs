//! The time of day as C's `ctime` writes it, which is what tools for ZEO expect; in UTC.

use zeo_proto::Tid;

/// A moment, given in microseconds since 1970, such as `Sat Nov 21 00:16:36 2026`.
pub(super) fn ctime(unix_micros: u64) -> String {
    // A time stamp has the calendar in it.
    let stamp = Tid::from_unix_micros(unix_micros).number() >> 32;
    let (minute_of_day, days) = (stamp % 1_440, stamp / 1_440);
    let (day, months) = (days % 31 + 1, days / 31);
    let (month, year) = (months % 12, months / 12 + 1900);
    let seconds = unix_micros / 1_000_000;
    // 1970 began on a Thursday.
    let weekday = name(&WEEKDAYS, seconds / 86_400 + 4);
    let month = name(&MONTHS, month);
    let (hour, minute, second) = (minute_of_day / 60, minute_of_day % 60, seconds % 60);
    format!("{weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

/// The name of that number, counted on from the first when there are no more.
fn name(names: &[&'static str], number: u64) -> &'static str {
    let place = usize::try_from(number).unwrap_or(0) % names.len();
    names.get(place).copied().unwrap_or_default()
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    /// What `date -u -d @SECONDS +%c` says.
    #[test]
    fn a_moment_is_written_as_c_writes_it() {
        for (seconds, text) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (951_782_399, "Mon Feb 28 23:59:59 2000"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (1_795_220_196, "Sat Nov 21 00:16:36 2026"),
            (4_102_444_799, "Thu Dec 31 23:59:59 2099"),
        ] {
            assert_eq!(ctime(seconds * 1_000_000 + 999_999), text);
        }
    }
}
