//! `update`: other limits for a container.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use corten_core::spec::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};

use super::container;
use crate::app::App;
use crate::failure::{Failure, Outcome};
use crate::parse::Matches;

pub(crate) fn run(app: &App, matches: &Matches) -> Outcome {
    let (runtime, mut container) = container(app, matches)?;
    let resources = match text(matches, "resources") {
        Some(path) => read(&path)?,
        None => given(matches)?,
    };
    // As with runc these count beside `--resources` too.
    let rdt = IntelRdt {
        l3_cache_schema: text(matches, "l3-cache-schema"),
        mem_bw_schema: text(matches, "mem-bw-schema"),
        ..IntelRdt::default()
    };
    if rdt == IntelRdt::default() {
        container.update(&resources)?;
        return Ok(0);
    }
    let before = runtime.update_schemata(&mut container, &rdt)?;
    if let Err(failure) = container.update(&resources) {
        if let Err(error) = runtime.restore_schemata(&mut container, before) {
            log::warn!("{error:#}");
        }
        return Err(failure.into());
    }
    Ok(0)
}

/// From a file, or from stdin.
fn read(path: &str) -> Result<Resources, Failure> {
    let mut bytes = Vec::new();
    let done = match path {
        "-" => io::stdin().read_to_end(&mut bytes).map(drop),
        path => fs::read(path).map(|read| bytes = read),
    };
    done.map_err(|error| Failure::io(Path::new(path), &error))?;
    Resources::parse(&bytes).map_err(|error| Failure::new(format_args!("{path}: {error}")))
}

fn given(matches: &Matches) -> Result<Resources, Failure> {
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if text(matches, flag).is_some() {
            log::warn!("--{flag}: ignored, the kernel has no such limit any more");
        }
    }
    let memory = Memory {
        limit: bytes(matches, "memory")?,
        reservation: bytes(matches, "memory-reservation")?,
        swap: bytes(matches, "memory-swap")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: number(matches, "cpu-share")?,
        quota: number(matches, "cpu-quota")?,
        burst: number(matches, "cpu-burst")?,
        period: number(matches, "cpu-period")?,
        realtime_runtime: number(matches, "cpu-rt-runtime")?,
        realtime_period: number(matches, "cpu-rt-period")?,
        cpus: text(matches, "cpuset-cpus"),
        mems: text(matches, "cpuset-mems"),
        idle: number(matches, "cpu-idle")?,
    };
    let io = BlockIo {
        weight: number(matches, "blkio-weight")?,
        ..BlockIo::default()
    };
    let limit = number(matches, "pids-limit")?;
    Ok(Resources {
        memory: Some(memory),
        cpu: Some(cpu),
        block_io: Some(io),
        pids: Some(Pids { limit }),
        ..Resources::default()
    })
}

/// The flag's value; as with runc an empty one is none.
fn text(matches: &Matches, flag: &str) -> Option<String> {
    let value = matches.value(flag)?.to_string_lossy().into_owned();
    Some(value).filter(|value| !value.is_empty())
}

fn number<T: FromStr>(matches: &Matches, flag: &str) -> Result<Option<T>, Failure> {
    let Some(text) = text(matches, flag) else {
        return Ok(None);
    };
    let wrong = || Failure::new(format_args!("invalid value for {flag}: {text:?}"));
    text.parse().map(Some).map_err(|_| wrong())
}

fn bytes(matches: &Matches, flag: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = text(matches, flag) else {
        return Ok(None);
    };
    let wrong = || Failure::new(format_args!("invalid value for {flag}: {text:?}"));
    amount(&text).map(Some).ok_or_else(wrong)
}

/// An amount of memory as `64m`, `1.5GiB` or in bytes; -1 is no limit.
fn amount(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at_checked(end.unwrap_or(text.len()))?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let letter = unit.strip_suffix('b').unwrap_or(&unit);
    let letter = letter.strip_suffix('i').unwrap_or(letter);
    let power = ["", "k", "m", "g", "t", "p"];
    let power = power.iter().position(|known| *known == letter)?;
    let factor = 1_u64 << (10 * power);
    i64::try_from(super::decimal(number, factor)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::command;
    use crate::parse::{Place, parse};

    #[test]
    fn amounts_of_memory_are_those_of_docker() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("64k", 65_536),
            ("64KB", 65_536),
            ("1m", 1 << 20),
            ("1MiB", 1 << 20),
            ("1.5g", 3 << 29),
            ("2 G", 2 << 30),
            ("7b", 7),
        ] {
            assert_eq!(amount(text), Some(bytes), "{text}");
        }
        for wrong in [
            "",
            "m",
            "-2",
            "1x",
            "1mm",
            "1.2.3",
            "99999999999g",
            "+1",
            "ä",
        ] {
            assert_eq!(amount(wrong), None, "{wrong:?}");
        }
    }

    fn read_line(line: &str) -> Result<Resources, Failure> {
        let words = line.split_whitespace().map(std::ffi::OsString::from);
        let flags = command("update").expect("it is there").flags;
        given(&parse(flags, Place::Anywhere, words).expect("known flags"))
    }

    #[test]
    fn flags_are_the_fields_of_resources() {
        let line = "--memory 64m --memory-reservation 1k --memory-swap -1 --cpu-share 9 \
            --cpu-quota -1 --cpu-period 5000 --cpu-burst 7 --cpu-idle 0 --cpuset-cpus 0-1 \
            --cpuset-mems 0 --blkio-weight 500 --pids-limit -1 id";
        let json = r#"{"memory": {"limit": 67108864, "reservation": 1024, "swap": -1},
            "cpu": {"shares": 9, "quota": -1, "period": 5000, "burst": 7, "idle": 0,
                    "cpus": "0-1", "mems": "0"},
            "blockIO": {"weight": 500}, "pids": {"limit": -1}}"#;
        let expected = Resources::parse(json.as_bytes()).unwrap();
        assert_eq!(read_line(line).unwrap(), expected);
    }

    #[test]
    fn a_value_that_is_no_number_is_told_with_its_flag() {
        for line in [
            "--cpu-share x",
            "--cpu-share -1",
            "--memory 1x",
            "--blkio-weight 65536",
        ] {
            let failure = read_line(line).unwrap_err();
            let flag = line.split([' ', '-']).find(|word| word.len() > 2).unwrap();
            let begin = format!("invalid value for {flag}");
            assert!(failure.message.starts_with(&begin), "{}", failure.message);
        }
    }
}
