//! In-process: the same container by the library from a small and from a large program, against
//! the large one starting a runtime's command.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Group;
use super::result::Measurement;
use super::subject::{Lab, Runtime, Subject};

pub(super) const GROUP: Group = Group {
    name: "library",
    about: "create, start, wait and delete by the library in a small program and in one of 4 GiB and 64 threads",
    measure,
};

const THREADS: usize = 64;
/// The large program; with few rounds it is only to be seen that it works.
const MIB: usize = 4096;

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let program = crate::built("embedder").map_err(|error| {
        format!("{error} (with the profile of this program, -p corten-examples)")
    })?;
    let mib = if lab.rounds < 10 { 64 } else { MIB };
    let size = [THREADS.to_string(), mib.to_string()];
    let start = |name: &str, size: &[String]| {
        let mut command = Command::new(&program);
        command
            .arg(lab.folder("default"))
            .arg(lab.folder.join(name))
            .args(size);
        Worker::start(command)
    };
    super::progress("library: filling the memory", 0, 1);
    let (large, small) = (start("state-large", &size)?, start("state-small", &[])?);
    let (large, small) = (
        std::cell::RefCell::new(large),
        std::cell::RefCell::new(small),
    );
    let mut subjects = vec![
        Subject::new("large", || Ok([large.borrow_mut().time("library")?])),
        Subject::new("small", || Ok([small.borrow_mut().time("library")?])),
    ];
    for runtime in &lab.runtimes {
        let line = run_line(lab, runtime);
        let large = &large;
        let name = format!("large, {} run", runtime.name);
        subjects.push(Subject::new(&name, move || {
            Ok([large.borrow_mut().time(&line)?])
        }));
    }
    let mut result = Measurement::new("library", "ms").goal("small", 1.2);
    [result.series] = lab.rounds(&result.name, &mut subjects)?;
    drop(subjects);
    large.into_inner().end()?;
    small.into_inner().end()?;
    Ok(vec![result.note(format!(
        "the large program has {mib} MiB resident and {THREADS} threads"
    ))])
}

fn run_line(lab: &Lab, runtime: &Runtime) -> String {
    let (program, root) = (runtime.program.display(), runtime.root.display());
    let bundle = lab.folder("default");
    format!(
        "{program} --root {root} run --bundle {} bench-spawned",
        bundle.display()
    )
}

/// `embedder`, told what to do by lines.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(mut command: Command) -> Result<Self, String> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let ends = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = ends else {
            return Err("embedder: no pipes".to_owned());
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    /// Milliseconds that a line took, as the worker measured.
    fn time(&mut self, line: &str) -> Result<f64, String> {
        let failed = |error: std::io::Error| format!("embedder: {error}");
        writeln!(self.input, "{line}").map_err(failed)?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(failed)?;
        let nanoseconds: f64 = answer
            .trim()
            .parse()
            .map_err(|_| format!("embedder: {line}: no answer"))?;
        Ok(nanoseconds / 1e6)
    }

    fn end(mut self) -> Result<(), String> {
        drop(self.input);
        let status = self
            .child
            .wait()
            .map_err(|error| format!("embedder: {error}"))?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| format!("embedder: {status}"))
    }
}
