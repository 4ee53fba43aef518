//! The runtime half: everything on the host that makes a container's process.
//!
//! The only place with side effects outside init and `container`. A [`Driver`] walks a
//! plan: its own steps it runs, init's it waits for.
//!
//! # Layout
//! - `driver`: the walk, and the way back when a step fails
//! - `init_program`: init as a file that can be executed
//! - `link`: the socket to init
//! - `listener`: the listener of a seccomp filter
//! - `netdevices`: network devices, by way of `netlink`
//! - `calloff`: waits that another process can end
//! - `report`: what init wrote about its steps
//! - `failure`: a failed step as one sentence
//! - `hooks`: hooks on the host
//! - `resctrl`: classes of service
//! - `console`: the pty's master
//! - `trace`: when each step began and ended

mod calloff;
mod console;
mod driver;
mod failure;
mod hooks;
mod init_program;
mod link;
mod listener;
mod netdevices;
mod netlink;
mod report;
mod resctrl;
mod trace;

pub(crate) use calloff::{CALLED_OFF, CallOff, call_off};
pub(crate) use console::hand_on;
pub(crate) use driver::{Driver, Keeper, Made, Process, Undone, paused};
pub(crate) use failure::{LateStep, killed_in, late_steps, sentence};
pub(crate) use hooks::Hooks;
pub(crate) use init_program::{InitProgram, is_init, is_program, was_init};
pub(crate) use report::{Record, Report};
pub(crate) use resctrl::remove as remove_resctrl;
pub use trace::Trace;
pub(crate) use trace::wants_times;
