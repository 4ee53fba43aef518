//! A compiled filter as bytes, to be kept by who makes many containers of one profile.
//!
//! What is kept holds for one text of a profile, byte by byte, and for one version of the compiler:
//! there is no way to get another's filter, and no need to throw any away by hand.

use super::architecture::Architecture;
use crate::spec::Compiled;

/// Stands for all that a filter depends on besides the profile: any change of the compiler, or of
/// the calls that init makes behind a filter.
const VERSION: u64 = {
    let mut sum = 1;
    let sources = [
        include_bytes!("architecture.rs").as_slice(),
        include_bytes!("compile.rs"),
        include_bytes!("flags.rs"),
        include_bytes!("kept.rs"),
        include_bytes!("multiplexed.rs"),
        include_bytes!("profile.rs"),
        include_bytes!("tables.rs"),
        include_bytes!("../spec/seccomp.rs"),
        include_bytes!("../spec/profile.rs"),
        include_bytes!("../spec/read.rs"),
        include_bytes!("../spec/json.rs"),
        include_bytes!("../plan/seccomp.rs"),
        include_bytes!("../../init/src/abi/calls.rs"),
    ];
    let mut at = 0;
    while at < sources.len() {
        sum = mixed(sum, hash(sources[at]));
        at += 1;
    }
    sum
};

/// Numbers in front of a filter: the version, the sum of all behind it, the calls that pass, the
/// flags, and the lengths of text, warnings and program.
const NUMBERS: usize = 7;

/// Stands for "no list of flags".
const NO_FLAGS: u64 = u64::MAX;

/// One step of a sum: nobody attacks it, it tells profiles apart and finds what is torn.
const fn mixed(sum: u64, word: u64) -> u64 {
    (sum ^ word)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

const fn hash(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    while at < words.len() {
        sum = mixed(sum, u64::from_le_bytes(words[at]));
        at += 1;
    }
    let mut last = 0;
    at = 0;
    while at < rest.len() {
        last = last << 8 | rest[at] as u64;
        at += 1;
    }
    mixed(sum, last)
}

/// Whether these are the same bytes. The C library that the command is linked with compares one at
/// a time.
fn same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (others, last)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let pairs = words.iter().zip(others);
    let differ = pairs.fold(0, |bits, (one, other)| {
        bits | u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other)
    });
    one.len() == other.len() && differ == 0 && rest == last
}

/// A number for a profile's text, the same for the same text.
pub(crate) fn number(text: &str) -> u64 {
    hash(text.as_bytes())
}

/// The version that this program's filters are of.
fn version() -> u64 {
    let native = Architecture::native().map_or(0, |native| native as u64 + 1);
    mixed(VERSION, native)
}

/// The filter of a profile with this text, as bytes.
pub(crate) fn encode(text: &str, compiled: &Compiled) -> Vec<u8> {
    let Compiled {
        program,
        flags,
        passes,
        warnings,
    } = compiled;
    let warnings = warnings.join("\n");
    let program: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut rest = Vec::new();
    for number in [
        *passes,
        flags.map_or(NO_FLAGS, u64::from),
        text.len() as u64,
        warnings.len() as u64,
        program.len() as u64,
    ] {
        rest.extend(number.to_le_bytes());
    }
    rest.extend([text.as_bytes(), warnings.as_bytes(), &program].concat());
    [
        &version().to_le_bytes()[..],
        &hash(&rest).to_le_bytes(),
        &rest,
    ]
    .concat()
}

/// The filter of a profile with this text, if that is what these bytes are of.
pub(crate) fn decode(text: &str, bytes: &[u8]) -> Option<Compiled> {
    let (numbers, rest) = bytes.split_at_checked(NUMBERS * 8)?;
    let (numbers, _) = numbers.as_chunks::<8>();
    let &[its, sum, passes, flags, text_len, warnings_len, program_len] = numbers else {
        return None;
    };
    let [its, sum, passes, flags] = [its, sum, passes, flags].map(u64::from_le_bytes);
    if its != version() || sum != hash(bytes.get(16..)?) {
        return None;
    }
    let [text_len, warnings_len, program_len] =
        [text_len, warnings_len, program_len].map(|len| u64::from_le_bytes(len) as usize);
    let (its, rest) = rest.split_at_checked(text_len)?;
    let (warnings, program) = rest.split_at_checked(warnings_len)?;
    if !same(its, text.as_bytes()) || program.len() != program_len {
        return None;
    }
    let warnings = std::str::from_utf8(warnings).ok()?;
    let (program, _) = program.as_chunks::<4>();
    Some(Compiled {
        program: program
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect(),
        flags: u32::try_from(flags).ok(),
        passes,
        warnings: warnings.lines().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Compiled {
        Compiled {
            program: vec![0x20, 4, 0x0006, 0x7fff_0000],
            flags: Some(0),
            passes: 5,
            warnings: vec!["one".to_owned(), "two".to_owned()],
        }
    }

    #[test]
    fn what_was_kept_comes_back() {
        for compiled in [
            filter(),
            Compiled {
                flags: None,
                warnings: Vec::new(),
                ..filter()
            },
        ] {
            let bytes = encode("{\"a\": 1}", &compiled);
            assert_eq!(decode("{\"a\": 1}", &bytes), Some(compiled));
        }
    }

    #[test]
    fn another_text_is_another_profile() {
        let bytes = encode("{\"a\": 1}", &filter());
        for other in ["", "{\"a\": 2}", "{\"a\": 1} ", "{\"a\":1}"] {
            assert_eq!(decode(other, &bytes), None, "{other:?}");
            assert_ne!(number(other), number("{\"a\": 1}"));
        }
    }

    #[test]
    fn bytes_that_are_torn_or_changed_are_no_filter() {
        let whole = encode("{}", &filter());
        for len in 0..whole.len() {
            assert_eq!(decode("{}", &whole[..len]), None, "{len} bytes");
            let zeros = vec![0; whole.len() - len];
            let torn = [&whole[..len], &zeros].concat();
            assert!(torn == whole || decode("{}", &torn).is_none(), "{len}");
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[len] ^= 1 << bit;
                assert_eq!(decode("{}", &changed), None, "byte {len} bit {bit}");
            }
        }
        assert_eq!(decode("{}", &[whole, vec![0]].concat()), None);
    }
}
