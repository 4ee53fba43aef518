//! Runs a classic BPF program over one call's data, as the kernel's seccomp does.

/// struct seccomp_data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) token: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
    /// How a word of 64 bits lies in memory there.
    pub(super) big_endian: bool,
}

/// An instruction of any origin: code, jt, jf, k.
pub(super) type Raw = (u16, u8, u8, u32);

impl Call {
    fn word(&self, offset: u32) -> u32 {
        assert_eq!(offset % 4, 0, "seccomp loads aligned words only");
        match offset {
            0 => self.number,
            4 => self.token,
            8 | 12 => 0xdead_beef,
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                let high = (offset % 8 == 4) != self.big_endian;
                (if high { argument >> 32 } else { argument }) as u32
            }
            _ => panic!("a load at {offset} is outside of the data"),
        }
    }
}

/// The program's answer, and how many instructions it took.
pub(super) fn run(program: &[Raw], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at) = (0u32, 0usize);
    for executed in 1..=program.len() {
        let (code, if_true, if_false, operand) = program[at];
        at += 1;
        let mut jump = |holds| at += usize::from(if holds { if_true } else { if_false });
        match code {
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => jump(accumulator == operand),
            0x25 => jump(accumulator > operand),
            0x35 => jump(accumulator >= operand),
            0x45 => jump(accumulator & operand != 0),
            0x06 => return (operand, executed),
            other => panic!("no instruction has code {other:#x}"),
        }
    }
    panic!("a program without backward jumps can't take longer than it is");
}

/// What the kernel checks before it takes a program: known codes, jumps that stay inside, a
/// return at the end.
pub(super) fn check(program: &[Raw]) {
    assert!((1..=4096).contains(&program.len()), "{}", program.len());
    for (at, (code, if_true, if_false, operand)) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match code {
            0x20 => assert!(operand % 4 == 0 && *operand < 64),
            0x54 | 0x06 => {}
            0x05 => assert!((*operand as usize) < left),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(*if_true.max(if_false)) < left);
            }
            other => panic!("code {other:#x} at {at}"),
        }
    }
    assert_eq!(program.last().unwrap().0, 0x06);
}
