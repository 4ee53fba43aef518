//! `containerd-shim-corten-v2`: see the library of the same package.

use std::process::ExitCode;

fn main() -> ExitCode {
    corten_shim::main()
}
