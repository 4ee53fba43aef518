//! An OCI bundle in, a contained process out.
mod cgroup;
pub mod spec;
mod sys;
