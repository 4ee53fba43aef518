//! What the probe does besides telling facts: small things a check wants to happen
//! inside a container.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::mount::MountFlags;
use serde_json::{Value, json};

use crate::{files, sys};

/// Every action with its arguments, for the usage text.
pub(crate) const ACTIONS: &str = "true | facts | --write FILE | exit N | kill-self SIGNAL | \
    sleep [SECONDS] | ignore-term [SECONDS] | wait-signal | children N | echo TEXT... | cat | \
    errors TEXT | print-fd N | open r|w PATH... | read-file PATH | write-file PATH TEXT | \
    notify TEXT | stat PATH... | list PATH | allocate MIB | burn | huge-pages N | personality N | \
    words-of PATH | mount-tmpfs PATH | remount-rw PATH | snoop UNTIL | find NAME | \
    every-proc";

/// Does one action; `None` if there is no such one. The result is the exit code.
pub(crate) fn run(action: &str, arguments: &[&str]) -> Option<i32> {
    Some(match (action, arguments) {
        ("facts", []) => say(&crate::facts().to_string()),
        ("exit", [code]) => sys::exit(code.parse().ok()?),
        ("kill-self", [signal]) => kill_self(signal.parse().ok()?),
        ("sleep", []) => sleep(None),
        ("sleep", [seconds]) => sleep(Some(seconds.parse().ok()?)),
        ("ignore-term", rest) => {
            sys::ignore(libc::SIGTERM);
            say("ready");
            sleep(rest.first().and_then(|seconds| seconds.parse().ok()))
        }
        ("wait-signal", []) => wait_signal(),
        ("children", [count]) => children(count.parse().ok()?),
        ("echo", words) => say(&words.join(" ")),
        ("cat", []) => result(std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())),
        ("errors", [text]) => {
            eprintln!("{text}");
            0
        }
        ("print-fd", [number]) => print_fd(number.parse().ok()?),
        ("open", [mode @ ("r" | "w"), paths @ ..]) => say(&open(mode, paths).to_string()),
        ("read-file", [path]) => read_file(path),
        ("write-file", [path, text]) => result(write_file(path, text)),
        ("notify", [text]) => notify(text),
        ("stat", paths) => say(&stat(paths).to_string()),
        ("personality", [persona]) => personality(persona.parse().ok()?),
        ("list", [path]) => say(&files::directory(Path::new(path)).to_string()),
        ("allocate", [mebibytes]) => allocate(mebibytes.parse().ok()?),
        ("burn", []) => burn(),
        ("huge-pages", [count]) => huge_pages(count.parse().ok()?),
        ("mount-tmpfs", [path]) => outcome(rustix::mount::mount(
            "tmpfs",
            *path,
            "tmpfs",
            MountFlags::empty(),
            None,
        )),
        ("remount-rw", [path]) => {
            outcome(rustix::mount::mount_remount(*path, MountFlags::BIND, ""))
        }
        ("every-proc", []) => say(&json!(files::open_procs()).to_string()),
        ("find", [name]) => say(&json!(files::find(name)).to_string()),
        ("snoop", [until]) => snoop(Path::new(until)),
        ("words-of", [path]) => words_of(path)?,
        _ => return None,
    })
}

fn say(line: &str) -> i32 {
    result(writeln!(std::io::stdout(), "{line}"))
}

/// 0, or 1 with the error's name on stderr.
fn result<T>(done: std::io::Result<T>) -> i32 {
    match done {
        Ok(_) => 0,
        Err(error) => {
            eprintln!("{}", errno_name(&error));
            1
        }
    }
}

/// `EACCES` and the like.
pub(crate) fn errno_name(error: &std::io::Error) -> String {
    let name = error.raw_os_error().and_then(sys::errno_name);
    name.map_or_else(|| error.to_string(), str::to_owned)
}

fn kill_self(signal: i32) -> i32 {
    match sys::raise(signal) {
        // A pid 1 is not hurt by a signal of its own that it does not catch.
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}", errno_name(&error.into()));
            1
        }
    }
}

/// A call with a number as argument, for filters.
fn personality(persona: u32) -> i32 {
    outcome(sys::set_personality(persona).map(drop))
}

/// Prints the errno, or "done".
fn outcome(result: Result<(), rustix::io::Errno>) -> i32 {
    match result {
        Ok(()) => say("done"),
        Err(error) => say(&errno_name(&error.into())),
    }
}

/// Says something to the service manager, and stays.
fn notify(text: &str) -> i32 {
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(text.as_bytes(), path));
    match sent {
        Ok(_) => sleep(None),
        Err(error) => result::<()>(Err(error)),
    }
}

/// Sleeps for a time, or for ever.
fn sleep(seconds: Option<f64>) -> i32 {
    match seconds {
        Some(seconds) => std::thread::sleep(Duration::from_secs_f64(seconds)),
        None => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
    }
    0
}

/// Says "ready", waits for any signal and prints its number.
fn wait_signal() -> i32 {
    let signal = sys::wait_for_signal(|| {
        say("ready");
    });
    match signal {
        Ok(signal) => say(&signal.to_string()),
        Err(_) => 1,
    }
}

/// Starts sleeping children, says "ready" and sleeps itself.
fn children(count: usize) -> i32 {
    let Ok(program) = std::env::current_exe() else {
        return 1;
    };
    let mut started = Vec::new();
    for _ in 0..count {
        match std::process::Command::new(&program).arg("sleep").spawn() {
            Ok(child) => started.push(child),
            Err(error) => {
                eprintln!("{}", errno_name(&error));
                return 1;
            }
        }
    }
    say("ready");
    sleep(None)
}

/// Reserves so many huge pages of 2 MiB, and uses them.
fn huge_pages(count: usize) -> i32 {
    outcome(sys::use_huge_pages(count << 21))
}

/// Uses so much memory, says "ready" and sleeps.
fn allocate(mebibytes: usize) -> i32 {
    // Not zero: such pages would not be given before they are written to.
    let memory = vec![1_u8; mebibytes << 20];
    say("ready");
    let code = sleep(None);
    drop(std::hint::black_box(memory));
    code
}

/// Waits for a file and does the action that it names; then sleeps. What a check knows only
/// when the container already runs.
fn words_of(path: &str) -> Option<i32> {
    let text = loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => break text,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut words = text.split_whitespace();
    let code = run(words.next()?, &words.collect::<Vec<_>>())?;
    std::io::stdout().flush().ok()?;
    Some(code.max(sleep(None)))
}

/// Tries what ptrace(2) access is needed for on every other process that it sees, until a file is there. Says "ready"
/// first, and in the end what it could look at, as a list.
fn snoop(until: &Path) -> i32 {
    say("ready");
    let own = std::process::id();
    let mut seen = std::collections::BTreeSet::new();
    while !until.exists() {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != own) {
            let file = |name: &str| format!("/proc/{pid}/{name}");
            // Of a process that has ended Linux 6.1 opens them too, and there is nothing in them.
            let readable = |name: &str| {
                let opened = std::fs::File::open(file(name));
                opened.is_ok_and(|mut file| !matches!(file.read(&mut [0]), Ok(0)))
            };
            let opened = ["mem", "environ", "auxv"]
                .into_iter()
                .filter(|name| readable(name));
            let linked = ["exe", "cwd", "root", "fd/0", "fd/5", "ns/mnt"]
                .into_iter()
                .filter(|name| std::fs::read_link(file(name)).is_ok());
            seen.extend(opened.chain(linked));
        }
    }
    say(&json!(seen).to_string())
}

/// Uses a processor for ever.
fn burn() -> i32 {
    say("ready");
    loop {
        std::hint::spin_loop();
    }
}

fn print_fd(number: i32) -> i32 {
    let Some(fd) = sys::inherited_fd(number) else {
        eprintln!("EBADF");
        return 1;
    };
    let copied = fd
        .try_clone_to_owned()
        .and_then(|fd| std::io::copy(&mut std::fs::File::from(fd), &mut std::io::stdout()));
    result(copied)
}

/// For each path "ok", or the name of the error that open(2) gives.
fn open(mode: &str, paths: &[&str]) -> Value {
    let mut options = std::fs::OpenOptions::new();
    options.read(mode == "r").write(mode == "w");
    let one = |path: &&str| {
        let outcome = options
            .open(path)
            .map_or_else(|error| errno_name(&error), |_| "ok".into());
        ((*path).to_owned(), json!(outcome))
    };
    Value::Object(paths.iter().map(one).collect())
}

fn read_file(path: &str) -> i32 {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text));
    match read {
        Ok(_) => result(std::io::stdout().write_all(&text)),
        Err(error) => result::<()>(Err(error)),
    }
}

fn write_file(path: &str, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn stat(paths: &[&str]) -> Value {
    Value::Object(
        paths
            .iter()
            .map(|path| ((*path).to_owned(), files::stat(Path::new(path))))
            .collect(),
    )
}
