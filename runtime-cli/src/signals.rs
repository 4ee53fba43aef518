//! Names of signals, and the signals a foreground `run` takes to pass them on. See signal(7).

use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::Failure;
use crate::sys;

/// Lowest and highest real-time signal as C programs count them; glibc keeps 32 and 33.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// Second names of signals.
const ALIASES: &[(&str, Signal)] = &[
    ("CLD", Signal::SIGCHLD),
    ("IOT", Signal::SIGABRT),
    ("POLL", Signal::SIGIO),
];

/// Reads a number or a name, with or without SIG, in any case.
pub(crate) fn parse(text: &str) -> Result<i32, Failure> {
    find(text).ok_or_else(|| Failure::new(format_args!("unknown signal {text:?}")))
}

fn find(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=SIGRTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = || Signal::iterator().find(|signal| signal.as_str().get(3..) == Some(name));
    let alias = || {
        ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map(|(_, signal)| *signal)
    };
    named()
        .or_else(alias)
        .map(|signal| signal as i32)
        .or_else(|| real_time(name))
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-2`.
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.strip_prefix(sign)?.parse::<u8>().ok()
        }
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => SIGRTMIN + i32::from(offset(rest, '+')?),
        (_, Some(rest)) => SIGRTMAX - i32::from(offset(rest, '-')?),
        _ => return None,
    };
    (SIGRTMIN..=SIGRTMAX).contains(&number).then_some(number)
}

/// Whether a foreground `run` passes `signal` on to the container.
///
/// SIGCHLD and SIGWINCH are for this program; SIGPIPE and SIGURG come from its own files.
pub(crate) fn is_passed_on(signal: i32) -> bool {
    let own = [
        Signal::SIGCHLD,
        Signal::SIGPIPE,
        Signal::SIGURG,
        Signal::SIGWINCH,
    ];
    !own.iter().any(|own| *own as i32 == signal)
}

/// Blocks all signals but SIGPIPE and SIGURG and opens a file that tells them.
///
/// Done before the container is made, so that a signal that comes meanwhile is passed on later and
/// leaves nothing half made.
pub(crate) fn take() -> Result<SignalFd, Failure> {
    let mut set = sys::all_signals();
    set.remove(Signal::SIGPIPE);
    set.remove(Signal::SIGURG);
    set.thread_block()
        .map_err(|errno| Failure::call("sigprocmask", errno))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&set, flags).map_err(|errno| Failure::call("signalfd", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_with_and_without_sig_in_any_case() {
        for text in ["TERM", "SIGTERM", "term", "sigTerm", "15"] {
            assert_eq!(parse(text).unwrap(), 15, "{text}");
        }
        for (text, number) in [
            ("KILL", 9),
            ("hup", 1),
            ("iot", 6),
            ("SIGPOLL", 29),
            ("cld", 17),
            ("WINCH", 28),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn all_signals_are_taken_but_those_of_own_files() {
        let blocked = std::thread::spawn(|| {
            let _file = take().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = blocked.join().unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        let is_blocked = |signal: i32| blocked & 1 << (signal - 1) != 0;
        // 32 and 33 may be the C library's own.
        for signal in (1..32).chain(34..=64) {
            let never = ["KILL", "STOP", "PIPE", "URG"].map(|name| parse(name).unwrap());
            assert_eq!(is_blocked(signal), !never.contains(&signal), "{signal}");
        }
    }

    #[test]
    fn real_time_signals_count_from_both_ends() {
        for (text, number) in [
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax", 64),
            ("SIGRTMAX-30", 34),
            ("64", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for text in [
            "XX",
            "",
            "SIG",
            "SIGSIGTERM",
            "65",
            "-9",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN3",
            "9x",
        ] {
            assert_eq!(
                parse(text).unwrap_err().message,
                format!("unknown signal {text:?}")
            );
        }
    }

    #[test]
    fn signals_about_this_program_are_not_passed_on() {
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGPIPE,
            Signal::SIGURG,
            Signal::SIGWINCH,
        ] {
            assert!(!is_passed_on(signal as i32));
        }
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGTSTP,
        ] {
            assert!(is_passed_on(signal as i32));
        }
        assert!(is_passed_on(40));
    }
}
