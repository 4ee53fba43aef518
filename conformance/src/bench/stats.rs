//! What a list of samples says. The machine is noisy: the least of them is what the work takes,
//! and two subjects are compared round by round, in which both had the same neighbours.

/// The least sample; not a number if there is none.
pub(super) fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::NAN, f64::min)
}

/// The middle sample, or the mean of the two in the middle; not a number if there is none.
pub(super) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The sample that this part of the others is below, between two of them in proportion.
pub(super) fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let mut at = 0;
    let mut rest = part * count(last);
    while rest >= 1.0 && at < last {
        (at, rest) = (at + 1, rest - 1.0);
    }
    let next = sorted[(at + 1).min(last)];
    sorted[at] + (next - sorted[at]) * rest
}

/// How much more `with` takes than `without`: by the least of each. The least of the differences
/// would be that of the round in which `without` was disturbed most.
pub(super) fn least_more(with: &[f64], without: &[f64]) -> f64 {
    least(with) - least(without)
}

/// How many, as a number to compute with.
pub(super) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Two subjects of the same rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    /// Of the least samples.
    pub(super) least: f64,
    /// The middle one of the ratios of each round.
    pub(super) median: f64,
}

/// How much more `ours` is than `theirs`.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
    let pairs: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    Ratio {
        least: least(ours) / least(theirs),
        median: median(&pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan() && least(&[]).is_nan());
    }

    #[test]
    fn quantiles_are_taken_in_proportion() {
        let samples = [0.0, 10.0, 20.0, 30.0, 40.0];
        assert_eq!(quantile(&samples, 0.0), 0.0);
        assert_eq!(quantile(&samples, 0.9), 36.0);
        assert_eq!(quantile(&samples, 1.0), 40.0);
    }

    #[test]
    fn a_disturbed_round_does_not_make_what_comes_on_top_smaller() {
        // In the second round the one without was disturbed.
        assert_eq!(least_more(&[22.0, 21.0, 30.0], &[2.0, 20.0, 1.0]), 20.0);
    }

    #[test]
    fn pairs_are_of_one_round() {
        // One round in which the machine was three times as slow for both.
        let ratio = ratio(&[2.0, 6.0, 2.2], &[1.0, 3.0, 1.0]);
        assert_eq!(
            ratio,
            Ratio {
                least: 2.0,
                median: 2.0
            }
        );
    }
}
