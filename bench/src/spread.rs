//! Several figures of the same thing, as few numbers.

use std::fmt;

/// The smallest, the middle and the largest.
#[derive(Clone, Copy, Debug)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(figures);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        Some(Self { least, median: percentile(&sorted, 50.0), most })
    }
}

/// `median (least..most)`, each with the precision that is asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(2);
        write!(f, "{:.places$} ({:.places$}..{:.places$})", self.median, self.least, self.most)
    }
}

/// As a [`Spread`] with so many places, or a dash for no figures.
pub(crate) fn shown(figures: impl IntoIterator<Item = f64>, places: usize) -> String {
    Spread::of(figures).map_or_else(|| "-".to_owned(), |spread| format!("{spread:.places$}"))
}

/// Ascending.
pub(crate) fn sorted(figures: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The figure below or at which `percent` of the sorted figures are; not a number if there are none.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]).expect("three figures");
        assert_eq!(format!("{spread:.1}"), "2.0 (1.0..3.0)");
        assert_eq!(shown([], 2), "-");
        let hundred = sorted((1..=100).map(f64::from));
        assert_eq!((percentile(&hundred, 50.0), percentile(&hundred, 99.0)), (51.0, 100.0));
        assert!(percentile(&[], 50.0).is_nan());
    }
}
