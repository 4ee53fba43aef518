//! Seccomp: what each runtime makes of Docker's profile, and what it costs.

use std::path::Path;

use super::Group;
use super::result::Measurement;
use super::stats;
use super::subject::{Lab, Subject, time};

pub(super) const GROUP: Group = Group {
    name: "seccomp",
    about: "Docker's profile: instructions, executed per call, time of a call, run without it",
    measure,
};

fn measure(lab: &Lab) -> Result<Vec<Measurement>, String> {
    let mut length = Measurement::new("seccomp length", "instructions");
    let mut mean = Measurement::new("seccomp executed, mean", "instructions");
    let mut most = Measurement::new("seccomp executed, most", "instructions");
    for runtime in &lab.runtimes {
        super::progress("seccomp filters", 0, 1);
        let filter = lab.filter_of(runtime)?;
        let program = program(&filter);
        length = length.with(&runtime.name, vec![stats::count(program.len())]);
        let executed = executed(&program).ok_or_else(|| format!("{}'s filter", runtime.name))?;
        let sum: f64 = executed.iter().sum();
        mean = mean.with(&runtime.name, vec![sum / stats::count(executed.len())]);
        let highest = executed.iter().copied().fold(0.0, f64::max);
        most = most.with(&runtime.name, vec![highest]);
        let name = lab.folder.join(format!("filter-{}", runtime.name));
        std::fs::write(name, filter).map_err(|error| error.to_string())?;
    }
    let mean = mean.note("over the numbers 0 to 469 of this machine's own architecture");
    Ok(vec![length, mean, most, per_call(lab)?, without(lab)?])
}

/// An instruction of the classic BPF: code, where to jump, operand.
#[derive(Clone, Copy)]
struct Insn {
    code: u16,
    jump: [u8; 2],
    operand: u32,
}

fn program(bytes: &[u8]) -> Vec<Insn> {
    let (words, _) = bytes.as_chunks::<8>();
    let insn = |word: &[u8; 8]| {
        let [a, b, c, d, e, f, g, h] = *word;
        Insn {
            code: u16::from_ne_bytes([a, b]),
            jump: [c, d],
            operand: u32::from_ne_bytes([e, f, g, h]),
        }
    };
    words.iter().map(insn).collect()
}

/// How many instructions each call executes, with arguments of 0. None for a program that is not
/// one of seccomp(2).
fn executed(program: &[Insn]) -> Option<Vec<f64>> {
    (0..470).map(|number| steps(program, number)).collect()
}

const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else {
    0xc000_00b7
};

/// Runs it for a call, and counts. See linux/bpf_common.h for the codes.
fn steps(program: &[Insn], number: u32) -> Option<f64> {
    let (mut at, mut a, mut x, mut count) = (0_usize, 0_u32, 0_u32, 0.0);
    let mut memory = [0_u32; 16];
    loop {
        let insn = program.get(at)?;
        count += 1.0;
        at += 1;
        let operand = if insn.code & 0x08 == 0 {
            insn.operand
        } else {
            x
        };
        let cell = memory.get_mut(usize::try_from(insn.operand).ok()? % 16)?;
        match (insn.code & 7, insn.code & 0xf0) {
            // Loads: of struct seccomp_data, of a constant, of memory.
            (0, _) => {
                a = match (insn.code & 0xe0, insn.operand) {
                    (0, constant) => constant,
                    (0x60, _) => *cell,
                    (_, 0) => number,
                    (_, 4) => ARCHITECTURE,
                    _ => 0,
                };
            }
            (1, _) => {
                x = if insn.code & 0xe0 == 0x60 {
                    *cell
                } else {
                    insn.operand
                }
            }
            (2, _) => *cell = a,
            (3, _) => *cell = x,
            (4, 0x50) => a &= operand,
            (4, 0x40) => a |= operand,
            (4, 0x70) => a = a.checked_shr(operand)?,
            (5, 0) => at += usize::try_from(insn.operand).ok()?,
            (5, kind) => {
                let holds = match kind {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(insn.jump[usize::from(!holds)]);
            }
            (6, _) => return Some(count),
            (7, _) if insn.code & 0xf8 == 0 => x = a,
            (7, _) => a = x,
            _ => return None,
        }
    }
}

/// Nanoseconds of a call that the kernel must run the filter for, in containers of floor: one
/// whose arguments the profile looks at. Others it remembers as allowed.
fn per_call(lab: &Lab) -> Result<Measurement, String> {
    const CALLS: u32 = 200_000;
    let calls = CALLS.to_string();
    let of_filter = |name: &str, filter: Option<&Path>| {
        let mut idle = lab.floor_with(filter, &["/true"])?;
        let mut busy = lab.floor_with(filter, &["/true", "calls", &calls])?;
        Ok::<_, String>(Subject::new(name, move || {
            Ok([time(&mut busy)?, time(&mut idle)?])
        }))
    };
    let mut subjects: Vec<Subject<'_, 2>> = Vec::new();
    for runtime in &lab.runtimes {
        let filter = lab.folder.join(format!("filter-{}", runtime.name));
        subjects.push(of_filter(&runtime.name, Some(&filter))?);
    }
    subjects.push(of_filter("no filter", None)?);
    let mut result = Measurement::new("seccomp time of a call", "ns");
    let [busy, idle] = lab.rounds(&result.name, &mut subjects)?;
    for (busy, idle) in busy.iter().zip(&idle) {
        let ms = stats::least_more(&busy.samples, &idle.samples);
        result = result.with(&busy.subject, vec![ms * 1e6 / f64::from(CALLS)]);
    }
    Ok(result.note(format!(
        "personality(0xffffffff), whose argument the profile looks at; the least of {} runs with \
         {CALLS} calls, less the least of as many runs without",
        lab.rounds
    )))
}

/// `run` of the Docker-like bundle without its profile: beside `run docker`.
fn without(lab: &Lab) -> Result<Measurement, String> {
    let mut config = lab.config("docker", &["/true"]);
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
    lab.bundle("unfiltered", config)?;
    let id = |name: &str| format!("bench-{name}");
    let what = "seccomp run docker without a profile";
    lab.compare(what, "unfiltered", &|runtime| {
        super::subject::words(&["run", "--bundle", "{}", &id(&runtime.name)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_counted_along_the_way_that_a_call_takes() {
        let insn = |code, jump, operand| Insn {
            code,
            jump,
            operand,
        };
        let program = [
            insn(0x20, [0, 0], 4),
            insn(0x15, [0, 2], ARCHITECTURE),
            insn(0x20, [0, 0], 0),
            insn(0x35, [1, 0], 100),
            insn(0x06, [0, 0], 0x7fff_0000),
            insn(0x06, [0, 0], 0),
        ];
        assert_eq!(steps(&program, 7), Some(5.0));
        assert_eq!(steps(&program, 100), Some(5.0));
        // Falls off the end.
        assert_eq!(steps(&program[..3], 7), None);
    }

    #[test]
    fn a_filter_is_read_as_the_kernel_gives_it() {
        let program = program(&[0x15, 0, 3, 4, 9, 0, 0, 0]);
        assert_eq!(
            (program[0].code, program[0].jump, program[0].operand),
            (0x15, [3, 4], 9)
        );
    }
}
