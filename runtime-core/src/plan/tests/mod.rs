//! Plans without root: a configuration and a made-up machine go in, text comes out.
//!
//! # Layout
//! - `cases`: the configurations of `tests/plans` and the machines they are planned for
//! - `devices`: which nodes are given an owner
//! - `golden`: every plan, and every refusal, against its file
//! - `known`: profiles whose filter was kept
//! - `namespaces`: which namespace comes from where, as one table
//! - `paths`: where hidden paths are looked up
//! - `properties`: what holds for all of the plans
//! - `slots`: the check of slots, on lists of steps made by hand
//!
//! `CORTEN_BLESS=1 cargo test -p corten-core plan` writes the golden files anew.

mod cases;
mod devices;
mod golden;
mod known;
mod namespaces;
mod paths;
mod properties;
mod slots;
