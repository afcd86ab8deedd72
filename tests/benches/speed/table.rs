//! The table: each figure beside its reference, with their ratio, the aim, and whether it is met.

use std::fmt;

use crate::measure::Sample;

/// The table's first lines.
pub(crate) const HEAD: &str = "\
| what | zeo | beside | ratio | aim | met |
|---|---|---|---|---|---|";

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    zeo: Option<Figure>,
    beside: Option<(Figure, &'static str)>,
    aim: Aim,
}

/// The median of what was measured in several rounds, and the extremes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    low: f64,
    middle: f64,
    high: f64,
    unit: Unit,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Nanos,
    Micros,
    Millis,
    PerSecond,
    KibiBytes,
    MegaBytes,
    MegaBytesPerSecond,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Bounds for the figure.
    AtMost(f64),
    AtLeast(f64),
    /// Bounds for its ratio to the reference.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// For orientation.
    None,
}

impl Row {
    /// A figure that stands by itself.
    pub(crate) fn alone(what: impl Into<String>, zeo: Figure, aim: Aim) -> Self {
        Self { what: what.into(), zeo: Some(zeo), beside: None, aim }
    }

    /// Something that could not be measured, and why.
    pub(crate) fn absent(what: &str, why: &str) -> Self {
        Self { what: format!("{what}: {why}"), zeo: None, beside: None, aim: Aim::None }
    }

    /// A figure and its reference.
    pub(crate) fn beside(
        what: impl Into<String>,
        zeo: Figure,
        reference: (Figure, &'static str),
        aim: Aim,
    ) -> Self {
        Self { what: what.into(), zeo: Some(zeo), beside: Some(reference), aim }
    }

    /// How long one takes: a row for the median, which has the aim, and one for the slowest of a
    /// hundred.
    pub(crate) fn latencies(
        what: &str,
        zeo: &[Sample],
        (reference, name): (&[Sample], &'static str),
        aim: Aim,
    ) -> [Self; 2] {
        let [p50, p99] = [|sample: &Sample| sample.p50, |sample: &Sample| sample.p99]
            .map(|part| [zeo, reference].map(|side| Figure::of(Unit::Micros, side, part)));
        [
            Self::beside(format!("{what}, p50"), p50[0], (p50[1], name), aim),
            Self::beside(format!("{what}, p99"), p99[0], (p99[1], name), Aim::None),
        ]
    }

    /// How many a second.
    pub(crate) fn rates(
        what: impl Into<String>,
        zeo: &[Sample],
        (reference, name): (&[Sample], &'static str),
        aim: Aim,
    ) -> Self {
        Self::beside(what, Figure::rate(zeo), (Figure::rate(reference), name), aim)
    }

    /// The ratio, the aim, and whether it is met.
    fn judgement(&self) -> [String; 3] {
        let Some(Figure { middle, unit, .. }) = self.zeo else { return Default::default() };
        let ratio = self.beside.map(|(reference, _)| middle / reference.middle);
        let (aim, met) = match (self.aim, ratio.unwrap_or(f64::NAN)) {
            (Aim::AtMost(most), _) => (format!("≤ {}", unit.show(&round(most))), middle <= most),
            (Aim::AtLeast(least), _) => {
                (format!("≥ {}", unit.show(&round(least))), middle >= least)
            }
            (Aim::RatioAtMost(most), ratio) => (format!("≤ {most:.1} ×"), ratio <= most),
            (Aim::RatioAtLeast(least), ratio) => (format!("≥ {least:.1} ×"), ratio >= least),
            (Aim::None, _) => return [shown(ratio), String::new(), String::new()],
        };
        [shown(ratio), aim, if met { "yes" } else { "no" }.to_owned()]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeo = self.zeo.map_or_else(String::new, |figure| figure.to_string());
        let beside = self.beside.map(|(figure, name)| format!("{figure}: {name}"));
        let cells = [self.what.clone(), zeo, beside.unwrap_or_default()];
        cells.iter().chain(&self.judgement()).try_for_each(|cell| write!(f, "| {cell} "))?;
        f.write_str("|")
    }
}

impl Figure {
    /// The median of the rounds.
    pub(crate) fn new(unit: Unit, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let (low, high) = (rounds[0], rounds[rounds.len() - 1]);
        Self { low, middle: rounds[rounds.len() / 2], high, unit }
    }

    /// The median of one part of what was measured.
    pub(crate) fn of<T>(unit: Unit, rounds: &[T], part: impl Fn(&T) -> f64) -> Self {
        Self::new(unit, rounds.iter().map(part).collect())
    }

    pub(crate) fn rate(rounds: &[Sample]) -> Self {
        Self::of(Unit::PerSecond, rounds, |sample| sample.rate)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, middle, high, unit } = *self;
        let [low, middle, high] = [low, middle, high].map(three_digits);
        write!(f, "{} ({low}–{high})", unit.show(&middle))
    }
}

impl Unit {
    fn show(self, number: &str) -> String {
        match self {
            Self::Nanos => format!("{number} ns"),
            Self::Micros => format!("{number} µs"),
            Self::Millis => format!("{number} ms"),
            Self::PerSecond => format!("{number}/s"),
            Self::KibiBytes => format!("{number} KiB"),
            Self::MegaBytes => format!("{number} MB"),
            Self::MegaBytesPerSecond => format!("{number} MB/s"),
        }
    }
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
}

/// A number to three digits: more are noise.
fn three_digits(value: f64) -> String {
    if value < 100.0 {
        let decimals = if value < 10.0 { 2 } else { 1 };
        return format!("{value:.decimals$}");
    }
    let unit = 10_f64.powf(value.log10().floor() - 2.0);
    grouped(&format!("{:.0}", (value / unit).round() * unit))
}

/// A round number.
fn round(value: f64) -> String {
    if value < 1_000.0 { value.to_string() } else { three_digits(value) }
}

/// Digits with a comma before every three.
fn grouped(digits: &str) -> String {
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<_> = groups.map(String::from_utf8_lossy).collect();
    groups.join(",")
}
