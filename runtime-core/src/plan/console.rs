//! `process.terminal`: a pty of the container's own devpts.
//!
//! See pts(4). The master goes to the runtime half at a barrier of its own.

use corten_init::abi::{Op, Slot};

use super::{Context, RunOp, Step};
use crate::spec::NamespaceKind;

const ORIGIN: &str = "process.terminal";

/// Opens the pty, binds it on /dev/console and sends its master out.
pub(super) fn open(cx: &Context<'_>) -> Vec<Step> {
    if !cx.process.terminal {
        return Vec::new();
    }
    let mut steps = vec![open_pty(cx)];
    if cx.new_namespace(NamespaceKind::Mount) {
        let what = "bind the pty on /dev/console";
        steps.push(Step::init(Op::BindConsole {}, ORIGIN, what));
    }
    steps.extend(hand_on());
    steps
}

/// The same in a container that is there: its /dev/console is its first process's.
pub(super) fn open_in_container(cx: &Context<'_>) -> Vec<Step> {
    if !cx.process.terminal {
        return Vec::new();
    }
    let (path, into) = ("/".into(), Slot::ROOT);
    let root = Step::init(Op::OpenRoot { path, into }, ORIGIN, "open /");
    let close = Op::Close { slot: Slot::ROOT };
    let mut steps = vec![root, open_pty(cx)];
    steps.push(Step::init(close, ORIGIN, "close /"));
    steps.extend(hand_on());
    steps
}

fn open_pty(cx: &Context<'_>) -> Step {
    let size = cx.process.console_size.as_ref();
    let cells = |of: fn(&crate::spec::ConsoleSize) -> u64| {
        size.map_or(0, |size| {
            u32::try_from(of(size)).unwrap_or(u32::from(u16::MAX))
        })
    };
    let (rows, columns) = (cells(|size| size.height), cells(|size| size.width));
    let open = Op::OpenPty {
        uid: cx.process.user.uid,
        rows,
        columns,
    };
    Step::init(open, ORIGIN, "open a pty in /dev/pts")
}

fn hand_on() -> [Step; 2] {
    [
        Step::init(Op::SendConsole {}, ORIGIN, "send the pty's master out"),
        Step::run(RunOp::TakeConsole, ORIGIN, "hand the pty's master on"),
    ]
}

/// Makes the pty the process's terminal.
pub(super) fn use_it(cx: &Context<'_>) -> Vec<Step> {
    if !cx.process.terminal {
        return Vec::new();
    }
    vec![Step::init(
        Op::UseConsole {},
        ORIGIN,
        "use the pty as terminal",
    )]
}
