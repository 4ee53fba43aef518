//! `conformance`: see the library of the same package.

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(corten_conformance::cli::main(&arguments));
}
